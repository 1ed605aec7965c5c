-- Touches what a handler can: every way to end, and every port.
local seen = {}

return {
  events = { "order.#" },
  queue = "orders",
  timeout_ms = 500, -- where memory runs out, an answer may never come
  retry = { max = 2, base_ms = 1 },
  handle = function(event, ctx)
    local act = event.payload.act
    if act == "effects" then
      ctx.log.info("effects", { list = event.payload.list, id = event.id })
      ctx.redis.set("order:1", ctx.json.encode(event.payload))
      ctx.redis.get("order:1")
      ctx.cache.invalidate("order:*")
      ctx.sleep(1)
      assert(ctx.json.decode('{"a": [1, 2.5, null, {"b": "c"}]}').a[1] == 1)
      local text = string.rep("x", 3000):gsub("x", "yz")
      return #text
    elseif act == "fail" then
      error("always")
    elseif act == "retry" and event.attempt == 1 then
      ctx.retry("once more", { after_ms = 1 })
    elseif act == "snooze" and not seen[event.id] then
      seen[event.id] = true
      ctx.snooze(1)
    elseif act == "reject" then
      ctx.reject("never")
    elseif act == "drop" then
      ctx.drop("not wanted")
    end
  end,
}
