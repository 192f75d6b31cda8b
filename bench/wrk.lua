-- POSTs the alerts of FILE (one a line) in turn. The decimals of each time are a running number from FIRST on, so that
-- no alert is the same as one before: duplicates would cost the service less than alerts do.
local alerts, number = {}, tonumber(os.getenv("FIRST"))
for line in io.lines(os.getenv("FILE")) do alerts[#alerts + 1] = line:sub(1, -13) end
local headers = { ["Content-Type"] = "application/json" }

function request()
  number = number + 1
  return wrk.format("POST", "/", headers, alerts[number % #alerts + 1] .. string.format("%09d", number) .. 'Z"}')
end
