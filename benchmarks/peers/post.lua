-- wrk: the same photos over and over as multipart uploads. Arguments: path, folder of JPEGs, number, key ('-': none), pause of a connection after each answer in ms
local requests, at, pause = {}, 0, 0
function init(args)
  local boundary = 'wrk0boundary'
  local headers = {['Content-Type'] = 'multipart/form-data; boundary=' .. boundary}
  if args[4] ~= '-' then headers['Authorization'] = 'Bearer ' .. args[4] end
  pause = tonumber(args[5] or '0')
  if pause > 0 then delay = function() return pause end end
  for i = 0, tonumber(args[3]) - 1 do
    local file = assert(io.open(string.format('%s/%03d.jpg', args[2], i), 'rb'))
    local body = '--' .. boundary .. '\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n' ..
      'Content-Type: image/jpeg\r\n\r\n' .. file:read('*a') .. '\r\n--' .. boundary .. '--\r\n'
    requests[i + 1] = wrk.format('POST', args[1], headers, body)
    file:close()
  end
end
function request() at = at % #requests + 1; return requests[at] end
function done(summary, latency, all)
  io.write(string.format('JSON {"requests": %d, "us": %d, "p50": %d, "p99": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect, summary.errors.read, summary.errors.write, summary.errors.timeout))
end
