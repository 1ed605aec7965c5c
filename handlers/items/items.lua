-- What happens to items, as a line each. The queue is the publisher's: it takes no arguments and is
-- bound to nothing, as the server declares it that publishes straight into it.
local WORDS = {
  ["item.created"] = "CREATED",
  ["item.updated"] = "UPDATED",
  ["item.deleted"] = "DELETED",
}

return {
  events = { "item.created", "item.updated", "item.deleted" },
  queue = "item_events",
  queue_type = "classic",
  bind = false,
  envelope = "item",
  handle = function(event, ctx)
    local item = event.payload
    if type(item) ~= "table" or not item.id or not item.name then
      ctx.reject("the event has no item with an id and a name")
    end
    -- RFC 3339, whatever its fraction and zone: the clock that the publisher saw.
    local day, clock = string.match(event.time or "", "^(%d+-%d+-%d+)T(%d+:%d+:%d+)")
    local line = string.format("[%s] Item ID: %s, Name: %s", WORDS[event.type], item.id, item.name)
    ctx.log.info(day and line .. " at " .. day .. " " .. clock or line)
  end,
}
