/* ctx.http. */
#include <string.h>

#include "engine/effects.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_run.h"

#define HEADERS_MAX 100
#define TIMEOUT_MAX_MS (24.0 * 60 * 60 * 1000)

/* Reads {name = text or number} into an array, both of which are left on the stack. */
static void read_headers(lua_State *L, int table, struct lvt_http_request *request) {
    struct lvt_http_header *headers = lua_newuserdatauv(L, HEADERS_MAX * sizeof *headers, 0);
    luaL_checkstack(L, HEADERS_MAX + LUA_MINSTACK, "headers");
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (request->header_count == HEADERS_MAX)
            luaL_error(L, "ctx.http.request: more than %d headers", HEADERS_MAX);
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
            luaL_error(L, "ctx.http.request: headers must be texts by name");
        struct lvt_http_header *header = &headers[request->header_count++];
        header->name.data = lua_tolstring(L, -2, &header->name.len);
        header->value.data = lua_tolstring(L, -1, &header->value.len);
        if (strpbrk(header->name.data, "\r\n:") || strpbrk(header->value.data, "\r\n"))
            luaL_error(L, "ctx.http.request: the header %s would break the request",
                       header->name.data);
        lua_insert(L, -2); /* the value stays, under the key that goes on */
    }
    request->headers = headers;
}

static struct lvt_bytes read_text(lua_State *L, const char *name) {
    struct lvt_bytes text;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "ctx.http.request: %s must be a text", name);
    text.data = lua_tolstring(L, -1, &text.len);
    return text;
}

/* The field whose name is at -2 and value at -1. */
static void read_field(lua_State *L, struct lvt_http_request *request, int headers) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "a key";
    if (strcmp(name, "method") == 0) {
        request->method = read_text(L, name);
    } else if (strcmp(name, "url") == 0) {
        request->url = read_text(L, name);
    } else if (strcmp(name, "body") == 0) {
        request->body = read_text(L, name);
    } else if (strcmp(name, "headers") == 0) {
        if (!lua_istable(L, -1))
            luaL_error(L, "ctx.http.request: headers must be a table");
        lua_pushvalue(L, -1);
        lua_replace(L, headers);
    } else if (strcmp(name, "timeout_ms") == 0) {
        lua_Number timeout_ms = lua_tonumber(L, -1);
        if (!lua_isnumber(L, -1) || !(timeout_ms >= 1 && timeout_ms <= TIMEOUT_MAX_MS))
            luaL_error(L, "ctx.http.request: timeout_ms must be from 1 to a day's worth");
        request->timeout_ms = (uint64_t)timeout_ms;
    } else {
        luaL_error(L,
                   "ctx.http.request: unknown key %s (method, url, headers, body and timeout_ms "
                   "are known)",
                   name);
    }
}

static void answered(void *ctx, const struct lvt_http_response *response, const char *error) {
    const struct lvt_lua_answer answer = {
        .result = response ? LVT_ANSWER_OK : LVT_ANSWER_ERROR,
        .response = response,
        .error = error,
    };
    lvt_lua_run_answered(ctx, &answer);
}

/* Headers of one name are joined, as HTTP has it. */
static void push_headers(lua_State *L, const struct lvt_http_response *response) {
    lua_createtable(L, 0, (int)response->header_count);
    for (size_t i = 0; i < response->header_count; i++) {
        const struct lvt_http_header *header = &response->headers[i];
        lua_pushlstring(L, header->name.data, header->name.len);
        lua_pushvalue(L, -1);
        bool first = lua_rawget(L, -3) == LUA_TNIL;
        if (first)
            lua_pop(L, 1);
        else
            lua_pushliteral(L, ", ");
        lua_pushlstring(L, header->value.data ? header->value.data : "", header->value.len);
        if (!first)
            lua_concat(L, 3);
        lua_rawset(L, -3);
    }
}

static int request_done(lua_State *L, int status, lua_KContext serial) {
    const struct lvt_lua_answer *answer = lvt_lua_run_answer(L, serial);
    const struct lvt_http_response *response = answer->response;
    (void)status;
    if (!response)
        return luaL_error(L, "ctx.http.request: %s", answer->error ? answer->error : "failed");
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, response->status);
    lua_setfield(L, -2, "status");
    push_headers(L, response);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, response->body.data ? response->body.data : "", response->body.len);
    lua_setfield(L, -2, "body");
    return 1;
}

/* {method=, url=, headers=, body=, timeout_ms=} */
static int request(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    struct lvt_http_request asked = {.method = LVT_LITERAL("GET")};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2); /* the second place is for the headers */
    const int headers = 2;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        read_field(L, &asked, headers);
    if (asked.url.len == 0)
        return luaL_error(L, "ctx.http.request: url is missing");
    if (!lua_isnil(L, headers))
        read_headers(L, headers, &asked);
    lvt_effect_http(lrun->run, &asked, answered, lrun);
    lua_settop(L, 0);
    return lvt_lua_run_park(L, request_done);
}

void lvt_lua_http_push(lua_State *L) {
    static const luaL_Reg functions[] = {{"request", request}, {NULL, NULL}};
    luaL_newlib(L, functions);
}
