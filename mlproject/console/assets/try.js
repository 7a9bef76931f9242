// Drag, paste, choose or photograph; the answer is a piece of page that the server has drawn.
'use strict'
const drop = document.querySelector('#drop'), preview = document.querySelector('#preview'), answer = document.querySelector('#answer')
let turn = 0
async function put(file) {
  if (!file) return
  const mine = ++turn
  URL.revokeObjectURL(preview.src)
  preview.src = URL.createObjectURL(file); preview.hidden = false
  answer.replaceChildren(make('p', {class: 'hint'}, 'Asking …'))
  try {
    const r = await ask('/console/try', {method: 'POST', body: file, headers: {'content-type': file.type.startsWith('image/') ? file.type : 'application/octet-stream'}})
    if (mine !== turn) return
    if (r.ok) answer.innerHTML = await r.text()
    else answer.replaceChildren(make('p', {class: 'bad', role: 'alert'}, await why(r)))
  } catch { if (mine === turn) answer.replaceChildren(make('p', {class: 'bad', role: 'alert'}, 'The server cannot be reached.')) }
}
preview.addEventListener('error', () => { preview.hidden = true })
for (const id of ['choose', 'camera']) document.getElementById(id).addEventListener('change', e => { put(e.target.files[0]); e.target.value = '' })
document.addEventListener('paste', e => { const f = [...e.clipboardData.files][0]; if (f) { e.preventDefault(); put(f) } })
for (const name of ['dragover', 'drop', 'dragleave']) document.addEventListener(name, e => {
  e.preventDefault()
  drop.classList.toggle('over', name === 'dragover')
  if (name === 'drop') put(e.dataTransfer.files[0])
})
async function correct(form, said) {
  const out = form.querySelector('#said')
  out.textContent = '…'
  try {
    const r = await tell('/console/try/correct', {request_id: form.dataset.request, ...said})
    out.textContent = r.ok ? 'Thank you, it is kept.' : await why(r)
    out.className = r.ok ? '' : 'bad'
  } catch { out.textContent = 'The server cannot be reached.' }
}
answer.addEventListener('submit', e => { e.preventDefault(); correct(e.target, {label: e.target.querySelector('#label').value}) })
answer.addEventListener('click', e => { if (e.target.id === 'right') correct(e.target.form, {right: true}) })
