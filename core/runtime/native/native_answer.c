/* Answers as plugins get them: the ports' own are gone when their callback returns. */
#include "runtime/native/native_call.h"

static bool copy(struct lvt_arena *arena, struct lvt_bytes bytes, struct leveret_text *ret_text) {
    struct lvt_bytes copied = lvt_arena_copy(arena, bytes);
    *ret_text = (struct leveret_text){copied.data, copied.len};
    return copied.data != NULL;
}

void lvt_native_answer_error(struct lvt_native_call *call, const char *text) {
    static const char no_memory[] = "out of memory";
    struct leveret_answer *answer = &call->answer;
    answer->status = LEVERET_STATUS_ERROR;
    if (!copy(&call->arena, lvt_bytes_of(text ? text : "it failed"), &answer->error))
        answer->error = (struct leveret_text){no_memory, sizeof no_memory - 1};
}

static bool copy_columns(struct lvt_native_call *call, const struct lvt_rows *rows) {
    struct leveret_column *columns =
        lvt_arena_zalloc(&call->arena, (rows->column_count + 1) * sizeof *columns);
    for (size_t i = 0; columns && i < rows->column_count; i++) {
        if (!copy(&call->arena, lvt_bytes_of(rows->name(rows->self, i)), &columns[i].name))
            return false;
        columns[i].kind = (int32_t)rows->kind(rows->self, i);
    }
    call->answer.columns = columns;
    call->answer.column_count = rows->column_count;
    return columns != NULL;
}

static bool copy_cells(struct lvt_native_call *call, const struct lvt_rows *rows) {
    struct leveret_text *cells =
        lvt_arena_zalloc(&call->arena, (rows->row_count * rows->column_count + 1) * sizeof *cells);
    call->answer.cells = cells;
    for (size_t row = 0; cells && row < rows->row_count; row++)
        for (size_t column = 0; column < rows->column_count; column++, cells++) {
            struct lvt_bytes text;
            if (rows->cell(rows->self, row, column, &text) && !copy(&call->arena, text, cells))
                return false;
        }
    call->answer.row_count = rows->row_count;
    return cells != NULL;
}

_Static_assert((int)LEVERET_COLUMN_TEXT == (int)LVT_COLUMN_TEXT &&
                   (int)LEVERET_COLUMN_INTEGER == (int)LVT_COLUMN_INTEGER &&
                   (int)LEVERET_COLUMN_NUMBER == (int)LVT_COLUMN_NUMBER &&
                   (int)LEVERET_COLUMN_BOOLEAN == (int)LVT_COLUMN_BOOLEAN &&
                   (int)LEVERET_COLUMN_JSON == (int)LVT_COLUMN_JSON,
               "kinds cross as they are");

void lvt_native_answer_rows(struct lvt_native_call *call, const struct lvt_rows *rows) {
    call->answer.count = rows->affected;
    if (!copy_columns(call, rows) || !copy_cells(call, rows))
        lvt_native_answer_error(call, "out of memory for the rows");
}

_Static_assert((int)LEVERET_REPLY_NIL == (int)LVT_REPLY_NIL &&
                   (int)LEVERET_REPLY_STATUS == (int)LVT_REPLY_STATUS &&
                   (int)LEVERET_REPLY_INTEGER == (int)LVT_REPLY_INTEGER &&
                   (int)LEVERET_REPLY_STRING == (int)LVT_REPLY_STRING &&
                   (int)LEVERET_REPLY_ARRAY == (int)LVT_REPLY_ARRAY &&
                   (int)LEVERET_REPLY_ERROR == (int)LVT_REPLY_ERROR,
               "kinds cross as they are");

/* The client library bounds how deep arrays are nested. */
static bool copy_reply(struct lvt_arena *arena, const struct lvt_reply *from,
                       struct leveret_reply *to) {
    struct leveret_reply *items = lvt_arena_zalloc(arena, (from->count + 1) * sizeof *items);
    *to = (struct leveret_reply){
        .kind = (int32_t)from->kind, .integer = from->integer, .items = items};
    if (!items || !copy(arena, from->text, &to->text))
        return false;
    for (; to->count < from->count; to->count++)
        if (!copy_reply(arena, &from->items[to->count], &items[to->count]))
            return false;
    return true;
}

void lvt_native_answer_reply(struct lvt_native_call *call, const struct lvt_reply *reply) {
    struct leveret_reply *copied = lvt_arena_alloc(&call->arena, sizeof *copied);
    if (copied && copy_reply(&call->arena, reply, copied))
        call->answer.reply = copied;
    else
        lvt_native_answer_error(call, "out of memory for the reply");
}

static bool copy_response(struct lvt_native_call *call, const struct lvt_http_response *response) {
    struct leveret_answer *answer = &call->answer;
    struct leveret_pair *headers =
        lvt_arena_zalloc(&call->arena, (response->header_count + 1) * sizeof *headers);
    for (size_t i = 0; headers && i < response->header_count; i++)
        if (!copy(&call->arena, response->headers[i].name, &headers[i].name) ||
            !copy(&call->arena, response->headers[i].value, &headers[i].value))
            return false;
    answer->http_headers = headers;
    answer->http_header_count = headers ? response->header_count : 0;
    answer->http_status = response->status;
    return headers && copy(&call->arena, response->body, &answer->http_body);
}

void lvt_native_answer_response(struct lvt_native_call *call,
                                const struct lvt_http_response *response) {
    if (!copy_response(call, response))
        lvt_native_answer_error(call, "out of memory for the response");
}

void lvt_native_answer_id(struct lvt_native_call *call, struct lvt_bytes id) {
    if (!copy(&call->arena, id, &call->answer.id))
        lvt_native_answer_error(call, "out of memory for the id");
}
