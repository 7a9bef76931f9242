// One photo after the other, by keyboard. What was said waits in an outbox that outlives reloads and lost connections.
'use strict'
const at = id => document.getElementById(id)
const root = at('review'), stream = root.dataset.stream, KEY = `mlproject review ${root.dataset.me}`
const search = at('search'), found = at('found'), photo = at('photo')
let queue = [], current = null, labels = [], hits = [], pick = 0, sending = false, filling = false, blocked = false
let outbox = JSON.parse(localStorage.getItem(KEY) ?? '[]')
const seen = new Set(outbox.map(o => o.id)), pictures = new Map()
const status = (text, bad) => { at('status').textContent = text; at('status').className = bad ? 'bad' : '' }
const keep = () => { localStorage.setItem(KEY, JSON.stringify(outbox)); root.dataset.waiting = outbox.length }

function preload(item) {
  if (!item.photo || pictures.has(item.photo)) return
  const i = new Image(); i.src = `/console/photo/${item.photo}`
  pictures.set(item.photo, i)
  if (pictures.size > 40) pictures.delete(pictures.keys().next().value)
}
async function fill() {   // keep some photos ahead
  if (filling || queue.length > 4) return
  filling = true
  try {
    const r = await ask(`/console/review/next?n=12${stream ? `&stream=${stream}` : ''}`)
    if (r.ok) {
      const there = new Set([current?.id, ...queue.map(q => q.id)])
      for (const item of (await r.json()).items) if (!seen.has(item.id) && !there.has(item.id)) { queue.push(item); preload(item) }
      if (!current) show()
    } else if (r.status === 401) signIn()
    else status(await why(r), true)
  } catch { status('No connection; trying again …', true) } finally { filling = false }
}
function signIn() {
  if (blocked) return
  blocked = true
  at('status').replaceChildren('Your session is over; nothing is lost. ', make('a', {href: `/console/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`}, 'Sign in again'))
}
function show() {
  current = queue.shift() ?? null
  const there = current !== null
  photo.hidden = !there || !current.photo
  at('empty').hidden = there && !!current.photo
  at('empty').textContent = there ? 'The photo is not kept any more.' : 'Nothing to review. New photos appear by themselves.'
  if (there && current.photo) { photo.src = `/console/photo/${current.photo}`; photo.alt = `Photo to name, item ${current.id}` } else photo.removeAttribute('src')
  at('reason').textContent = there ? `${current.stream}: ${current.reason}` : ''
  at('note').hidden = !(there && current.note)
  at('note').textContent = there ? current.note ?? '' : ''
  at('facts').replaceChildren(...(there ? current.facts : []).flatMap(([k, v]) => [make('dt', {}, k), make('dd', {}, v)]))
  at('candidates').replaceChildren(...(there ? current.candidates : []).map((c, i) => make('li', {}, candidate(c, i))))
  root.dataset.item = current?.id ?? ''
  close(false)
  clear()
  fill()
}
const frame = photo.parentElement
function close(on) {   // or as it fits
  frame.classList.toggle('close', on)
  at('close').setAttribute('aria-pressed', String(on))
  if (!on) photo.style.transformOrigin = ''
}
function follow(e) {   // the part below the pointer
  if (!frame.classList.contains('close')) return
  const r = frame.getBoundingClientRect()
  photo.style.transformOrigin = `${100 * (e.clientX - r.left) / r.width}% ${100 * (e.clientY - r.top) / r.height}%`
}
frame.addEventListener('pointermove', follow)
photo.addEventListener('click', e => { close(!frame.classList.contains('close')); follow(e) })
function candidate(c, i) {
  const b = make('button', {type: 'button', 'data-label': c.name}, make('kbd', {}, String(i + 1)), make('span', {class: 'name'}, c.name))
  if (c.score !== null) b.append(make('span', {class: 'hint'}, `${(100 * c.score).toFixed(0)} %`))
  if (c.example) b.append(make('img', {src: `/console/photo/${c.example}`, alt: '', loading: 'lazy'}))
  return b
}
function say(label) {   // null skips
  if (!current) return
  outbox.push({id: current.id, label}); seen.add(current.id); keep()
  status(label === null ? 'skipped' : label)
  show()
  send()
}
async function send() {   // one after the other; a lost connection only makes it wait
  if (sending) return
  sending = true
  while (outbox.length && !blocked) {
    const o = outbox[0]
    let r = null
    try { r = await tell(`/console/review/${o.id}`, {label: o.label}) } catch { /* no connection */ }
    if (r?.status === 401) { signIn(); break }
    if (!r || r.status >= 500 || r.status === 429) { status(`${outbox.length} not sent yet; trying again …`, true); await new Promise(f => setTimeout(f, 1500)); continue }
    if (!r.ok) status(`not taken: ${await why(r)}`, true)
    outbox.shift(); keep()
  }
  sending = false
  if (!outbox.length) progress()
}
let undoing = false
async function undo() {
  if (undoing) return
  undoing = true
  try {
    while (outbox.length && !blocked) { await send(); await new Promise(f => setTimeout(f, 50)) }
    const r = await tell('/console/review/undo', {})
    if (!r.ok) return r.status === 401 ? signIn() : status(await why(r), true)
    const {item} = await r.json()
    if (!item) return status('there is nothing to take back')
    seen.delete(item.id)
    queue = queue.filter(q => q.id !== item.id)
    if (current && current.id !== item.id) queue.unshift(current)
    queue.unshift(item)
    show()
    status('taken back')
    progress()
  } catch { status('No connection.', true) } finally { undoing = false }
}
let asking = 0
async function progress() {
  const mine = ++asking
  try {
    const r = await ask('/console/review/state')
    if (!r.ok || mine !== asking) return
    const s = await r.json()
    labels = s.labels
    if (search.value) list()
    const rows = [['You reviewed', s.mine], ...Object.entries(s.queue).map(([n, q]) => [n, `${q.settled} settled, ${q.open} open, ${q.dispute} in dispute`])]
    rows.push(['Agreement', s.agreement === null ? 'no photo that two have named' : `α = ${s.agreement.toFixed(2)}`])
    at('progress').replaceChildren(...rows.flatMap(([k, v]) => [make('dt', {}, k), make('dd', {}, String(v))]))
  } catch { /* shown by the next request that matters */ }
}
function clear() { search.value = ''; list() }
function list() {   // every word typed begins a word of the name
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean)
  hits = words.length ? labels.filter(l => words.every(w => l.toLowerCase().split(/\s+/).some(p => p.startsWith(w)))).slice(0, 8) : []
  pick = 0
  draw()
}
function draw() {
  found.hidden = !hits.length
  search.setAttribute('aria-expanded', String(!!hits.length))
  found.replaceChildren(...hits.map((h, i) => make('li', {role: 'option', id: `hit-${i}`, 'aria-selected': String(i === pick), 'data-label': h}, h)))
  if (hits.length) search.setAttribute('aria-activedescendant', `hit-${pick}`); else search.removeAttribute('aria-activedescendant')
}
search.addEventListener('input', list)
document.addEventListener('keydown', e => {
  if (e.altKey || e.metaKey || (e.repeat && !search.value)) return
  if (e.ctrlKey) { if (e.key === 'z') { e.preventDefault(); undo() } return }
  const typing = search.value !== ''
  const act = f => { e.preventDefault(); f() }
  if (typing) {
    if (e.key === 'ArrowDown') act(() => { pick = Math.min(pick + 1, hits.length - 1); draw() })
    else if (e.key === 'ArrowUp') act(() => { pick = Math.max(pick - 1, 0); draw() })
    else if (e.key === 'Enter') act(() => hits[pick] ? say(hits[pick]) : status('no such species', true))
    else if (e.key === 'Escape') act(clear)
    else if (document.activeElement !== search && /^[\p{L} ]$/u.test(e.key)) search.focus()
    return
  }
  if (/^[1-9]$/.test(e.key)) act(() => { const c = current?.candidates[e.key - 1]; if (c) say(c.name) })
  else if (e.key === '?') act(() => say('unknown'))
  else if (e.key === '-') act(() => say('not an animal'))
  else if (e.key === '+') act(() => close(!frame.classList.contains('close')))
  else if (e.key === 'ArrowRight') act(() => say(null))
  else if (e.key === 'ArrowLeft') act(undo)
  else if (/^\p{L}$/u.test(e.key)) search.focus()   // the letter goes into the box
})
document.addEventListener('click', e => {
  const chosen = e.target.closest('[data-label]')
  if (chosen) say(chosen.dataset.label)
  else if (e.target.closest('#skip')) say(null)
  else if (e.target.closest('#undo')) undo()
  else if (e.target.closest('#close')) close(!frame.classList.contains('close'))
})
keep(); progress(); fill(); send()
setInterval(() => { if (!current) fill() }, 3000)
setInterval(progress, 20000)
addEventListener('online', send)
