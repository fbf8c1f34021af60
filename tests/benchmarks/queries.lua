-- For wrk: POST random queries, each BODY with its "%s" replaced by as many as QUERIES says, joined by SEPARATOR.
-- Prints one line of JSON when done; latencies are in microseconds, duration too.

local body, count, separator = os.getenv("BODY"), tonumber(os.getenv("QUERIES")), os.getenv("SEPARATOR")

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

function request()
  local queries = {}
  for index = 1, count do
    queries[index] = math.random(0, 999) .. "+" .. math.random(0, 999)
  end
  return wrk.format(nil, nil, nil, (body:gsub("%%s", table.concat(queries, separator))))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
