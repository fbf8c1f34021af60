-- For wrk: POST the text of the variable BODY, with a random query in place of each "%s".
-- Prints one line of JSON at the end; duration and latencies are in microseconds.

local body = os.getenv("BODY")

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

local function query()
  return math.random(0, 999) .. "+" .. math.random(0, 999)
end

function request()
  return wrk.format(nil, nil, nil, (body:gsub("%%s", query)))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
