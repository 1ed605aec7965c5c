/* Tells a thread that a coroutine has been at work for long, at no cost while none is.
 *
 * A timer of the thread's processor time sends it SIGURG every few milliseconds that it has worked,
 * and the signal's handler sets a hook (lua_sethook may be called there) on the coroutine that is
 * at work just then. So a hook, which slows every instruction, is set only when there is something
 * to look at; a resume costs two stores; an idle thread is never woken; and as the signal comes to
 * the very thread that runs Lua, nothing is shared between threads.
 *
 * SIGURG, because its default is to be ignored, nobody else sends it (but TCP's urgent data, to
 * those who ask), and debuggers let it pass. A handler that the process had for it before is called
 * for those that are not ours. */
#ifndef LEVERET_RUNTIME_LUA_WATCH_H
#define LEVERET_RUNTIME_LUA_WATCH_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

/* The coroutine that this thread works at from now on; NULL: none. Returns the one before. */
lua_State *lvt_lua_watch_switch(lua_State *L);

/* The hook of every tick, which lua_budget.c has. */
void lvt_lua_watch_hook(lua_State *L, lua_Debug *at);

/* False when this thread's timers cannot be had (RLIMIT_SIGPENDING counts them): no tick comes. */
bool lvt_lua_watch_works(void);

/* Whether a tick has come since this was last asked. */
bool lvt_lua_watch_ticked(void);

/* Asks for a tick in LVT_LUA_SLICE_MS, whatever has been worked until then. */
void lvt_lua_watch_slice(void);

/* Processor time that this thread has used. */
uint64_t lvt_lua_watch_used_us(void);

/* Between ticks, of processor time (the kernel may round it up to 4 or 10), and a slice, of time.
 */
#define LVT_LUA_TICK_MS 2
#define LVT_LUA_SLICE_MS 1

#endif
