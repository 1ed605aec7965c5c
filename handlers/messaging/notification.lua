-- Tells a user: {"user", "type", "title", "message", "data"}. The type is "email", "webhook" or
-- "app"; the tables are those of notifications.sql.

local function text(ctx, value, name)
  if type(value) ~= "string" or value == "" then
    ctx.reject(name .. " is missing, or is no text")
  end
  return value
end

local function target_of(ctx, user, kind)
  local rows = ctx.db.query([[
    SELECT target FROM notification_targets WHERE user_id IN ($1, '*') AND type = $2
    ORDER BY user_id = '*' LIMIT 1]], user, kind)
  if not rows[1] then
    ctx.reject("notification_targets has no " .. kind .. " for the user " .. user)
  end
  return rows[1].target
end

-- The mail is an event of its own: it leaves when the transaction commits, and is tried again, or
-- fails for good, without this one.
local function by_email(event, ctx, note)
  ctx.publish("email", {
    to = target_of(ctx, note.user, "email"),
    subject = note.title,
    body = note.message,
  }, { queue = "email_queue", id = event.id and event.id .. ".email" })
end

local function by_webhook(event, ctx, note)
  local answer = ctx.http.request({
    method = "POST",
    url = target_of(ctx, note.user, "webhook"),
    headers = { ["content-type"] = "application/json", ["idempotency-key"] = event.id },
    body = ctx.json.encode(note),
    timeout_ms = 10000,
  })
  if answer.status >= 200 and answer.status < 300 then
    return
  end
  local reason = "the webhook answers " .. answer.status
  if answer.status == 408 or answer.status == 429 or answer.status >= 500 then
    ctx.retry(reason)
  end
  ctx.reject(reason)
end

local ways = { email = by_email, webhook = by_webhook, app = function() end }

return {
  queue = "notification_queue",
  queue_type = "classic",
  max_priority = 9,
  bind = false,
  dead_letter = "failed_queue",
  timeout_ms = 30000,
  retry = { base_ms = 5000, cap_ms = 600000 },
  handle = function(event, ctx)
    local payload = event.payload
    if type(payload) ~= "table" then
      ctx.reject("the payload is no object")
    end
    local way = ways[payload.type]
    if not way then
      ctx.reject("type must be email, webhook or app")
    end
    local note = {
      id = event.id,
      user = text(ctx, payload.user, "user"),
      title = text(ctx, payload.title, "title"),
      message = text(ctx, payload.message, "message"),
      data = payload.data,
    }
    local has_data = note.data ~= nil and note.data ~= ctx.null
    ctx.db.exec([[
      INSERT INTO notifications (event_id, user_id, type, title, message, data)
      VALUES ($1, $2, $3, $4, $5, $6)]], event.id or ctx.null, note.user, payload.type, note.title,
      note.message, has_data and ctx.json.encode(note.data) or ctx.null)
    way(event, ctx, note)
    ctx.log.info("user notified", { user = note.user, type = payload.type })
  end,
}
