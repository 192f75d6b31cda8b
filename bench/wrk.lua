-- POSTs the alerts of FILE (one a line) in turn. The decimals of the time of each that is relevant are a running number
-- from FIRST on, so that none is the same as one before: duplicates would cost the service less than alerts do. All
-- others are made ready beforehand: a sender that is slower than the service would measure how often that falls asleep.
local alerts, number = {}, tonumber(os.getenv("FIRST"))
local headers = { ["Content-Type"] = "application/json" }

function init()
  for line in io.lines(os.getenv("FILE")) do
    local relevant = line:find("webrce_", 1, true)
    alerts[#alerts + 1] = relevant and { line:sub(1, -13) } or wrk.format("POST", "/", headers, line)
  end
end

function request()
  number = number + 1
  local alert = alerts[number % #alerts + 1]
  if type(alert) == "string" then return alert end
  return wrk.format("POST", "/", headers, alert[1] .. string.format("%09d", number) .. 'Z"}')
end
