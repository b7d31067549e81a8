-- Lets wrk send each request as the next of several callers: one caller alone would have all its
-- connections wait at one row in those stacks that write at every request.
-- The arguments are `Name: value` headers, one for each caller; without any, nobody is the caller.

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
