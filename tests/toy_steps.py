"Steps for the tests of the engine: what they do is said by their configuration."
import os, time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlproject.core import Problem, digest
from mlproject.data.records import Outcome, reject

@dataclass(frozen=True)
class SieveConfig:
    reject: float = .2   # share of the records that are rejected
    merge: float = 0.    # share that is said to be merged
    salt: str = ''       # which ones
    leak: int = 0        # records lost without a word: a bug
    pause: float = 0.    # s, to be killed in
    poison: str = ''     # an id that makes the step fail

def _chance(ids, salt): return np.array([int(digest(f'{salt}{i}')[:8], 16)/2**32 for i in ids], float)

def sieve(records: pa.Table, config: SieveConfig = SieveConfig()) -> Outcome:
    "Send records away by a hash of their id."
    ids = records['occurrenceID'].to_pylist()
    if config.poison in ids and config.poison: raise KeyError('poisoned')
    time.sleep(config.pause)
    x = _chance(ids, config.salt)
    gone, merged = x < config.reject, (x >= config.reject) & (x < config.reject + config.merge)
    left = records.filter(pa.array(~gone & ~merged, pa.bool_()))
    return Outcome(left.slice(config.leak), reject(records, pa.array(gone, pa.bool_()), 'sieve', f'sieve{config.salt}', 'by chance'), int(merged.sum()), dict(seen=len(ids)))

def shout(records: pa.Table) -> tuple:
    "Change the text, and measure it in a side-car."
    loud = pc.utf8_upper(records['occurrenceRemarks'])
    made = records.set_column(records.column_names.index('occurrenceRemarks'), 'occurrenceRemarks', loud)
    return Outcome(made), {'lengths': pa.table({'occurrenceID': records['occurrenceID'], 'length': pc.utf8_length(loud)})}

def weigh(records: pa.Table, *, weights: pa.Table) -> Outcome:
    "Needs a side table that is cut as the records are."
    return Outcome(records, counts=dict(weight=pc.sum(weights['weight']).as_py() or 0))

def dies(records: pa.Table) -> Outcome:
    "As when the system kills a process for want of memory."
    os._exit(9)

def refuses(records: pa.Table) -> Outcome: raise Problem('this cannot be done')
