// What the pages share: requests that carry the session's token.
'use strict'
const csrf = document.querySelector('meta[name=csrf]')?.content ?? ''
async function ask(path, options = {}) {
  const headers = {'x-csrf-token': csrf, 'accept': 'application/json', ...options.headers}
  return fetch(path, {credentials: 'same-origin', cache: 'no-store', ...options, headers})
}
const tell = (path, value) => ask(path, {method: 'POST', body: JSON.stringify(value), headers: {'content-type': 'application/json'}})
async function why(response) {
  try { return (await response.json()).detail } catch { return `the server answered ${response.status}` }
}
function make(name, words = {}, ...inside) {   // an element; text is only ever text
  const e = document.createElement(name)
  for (const [k, v] of Object.entries(words)) e.setAttribute(k, v)
  e.append(...inside)
  return e
}
