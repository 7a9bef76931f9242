// The drift tests come when they are worked out; the page is there already.
'use strict'
const drift = document.querySelector('#drift')
async function fetchDrift() {
  try {
    const r = await ask(drift.dataset.from, {headers: {accept: 'text/html'}})
    if (r.status === 202) return setTimeout(fetchDrift, 700)
    if (r.ok) drift.innerHTML = await r.text()
    else drift.replaceChildren(make('p', {class: 'bad'}, r.status === 401 ? 'Your session is over: load the page again.' : `The server answered ${r.status}.`))
  } catch { drift.replaceChildren(make('p', {class: 'bad'}, 'The server cannot be reached.')) }
  drift.setAttribute('aria-busy', 'false')
}
if (drift) fetchDrift()
