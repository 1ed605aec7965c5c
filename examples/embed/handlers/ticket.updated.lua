return function(event, ctx)
  ctx.log.info("updated, says Lua", { ticket = event.payload.id })
end
