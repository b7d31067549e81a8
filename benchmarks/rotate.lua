-- Sends each request of wrk as the next of several callers. With one caller, all connections would wait
-- for one row in stacks that write in every request.
-- The arguments are `Name: value` headers, one per caller. Without any, requests have no credential.

local requests, next_one = {}, 0

function init(headers)
  for _, header in ipairs(headers) do
    local name, value = header:match("^([^:]+): (.*)$")
    requests[#requests + 1] = wrk.format("GET", nil, { [name] = value, Host = wrk.headers["Host"] })
  end
  if #requests == 0 then
    requests[1] = wrk.format("GET")
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
