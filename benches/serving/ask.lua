-- One picture of 784 numbers a request; refusals are counted apart from answers, with the time that they took.
local numbers = {}
for index = 1, 784 do numbers[index] = index * 37 % 255 end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"inputs":{"features":[' .. table.concat(numbers, ",") .. ']}}'
-- Global, so that `done` can read them of each thread.
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() answered, refused, other = 0, 0, 0 end
function response(status)
    if status == 200 then answered = answered + 1 elseif status == 429 then refused = refused + 1 else other = other + 1 end
end
function done(summary, latency)
    local all = { answered = 0, refused = 0, other = 0 }
    for _, thread in ipairs(threads) do
        for name in pairs(all) do all[name] = all[name] + (thread:get(name) or 0) end
    end
    local errors = summary.errors
    io.write(string.format("RESULT answers/s %.0f, p50 %.1f ms, p99 %.1f ms, refused/s %.0f, other %d, broken %d\n",
        all.answered / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, all.refused / summary.duration * 1e6,
        all.other, errors.connect + errors.read + errors.write + errors.timeout))
end
