#include "api.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define LIST_DEFAULT 100

static const char *title_of(unsigned status) {
    switch (status) {
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 503:
        return "Service Unavailable";
    case 507:
        return "Insufficient Storage";
    default:
        return "Internal Server Error";
    }
}

struct reply api_problem(unsigned status, const char *detail) {
    struct reply reply = {.status = status};
    cJSON *json = cJSON_CreateObject();
    if (cJSON_AddNumberToObject(json, "status", status) &&
        cJSON_AddStringToObject(json, "title", title_of(status)) &&
        cJSON_AddStringToObject(json, "detail", detail))
        reply.body = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return reply;
}

static struct reply not_allowed(const char *allow) {
    struct reply reply = api_problem(405, "the method is not allowed here: see Allow");
    reply.allow = allow;
    return reply;
}

static struct reply with_body(unsigned status, char *body) {
    return body ? (struct reply){.status = status, .body = body}
                : api_problem(500, "out of memory");
}

/* Of anything but STORE_OK. */
static struct reply store_problem(enum store_result result) {
    switch (result) {
    case STORE_NOT_FOUND:
        return api_problem(404, "there is no item with this id");
    case STORE_FULL:
        return api_problem(507, "there is no room for more");
    default:
        return api_problem(503,
                           "the database cannot be reached, or does not answer; a change may "
                           "or may not have been made");
    }
}

/* ---- /items ---- */

static struct reply list_items(const struct store *store, const struct request *request) {
    int64_t after = 0, limit = LIST_DEFAULT;
    struct item *items;
    size_t count;
    if (request->after && !text_number(request->after, 0, INT64_MAX - 1, &after))
        return api_problem(400, "after must be an item's id");
    if (request->limit && !text_number(request->limit, 1, STORE_LIST_MAX, &limit))
        return api_problem(400, "limit must be a number from 1 to 1000");
    enum store_result result = store->list(store->self, after, (size_t)limit, &items, &count);
    if (result != STORE_OK)
        return store_problem(result);
    struct reply reply = with_body(200, item_list_json(items, count));
    if (count == (size_t)limit)
        snprintf(reply.link, sizeof reply.link,
                 "</items?after=%" PRId64 "&limit=%" PRId64 ">; rel=\"next\"", items[count - 1].id,
                 limit);
    for (size_t i = 0; i < count; i++)
        item_free(&items[i]);
    free(items);
    return reply;
}

static struct reply create_item(const struct store *store, const struct request *request) {
    char problem[ITEM_PROBLEM_SIZE];
    struct item item;
    if (!item_read(request->body, request->body_len, 0, &item, problem))
        return api_problem(400, problem);
    enum store_result result = store->create(store->self, &item);
    struct reply reply =
        result == STORE_OK ? with_body(201, item_json(&item)) : store_problem(result);
    if (result == STORE_OK)
        snprintf(reply.location, sizeof reply.location, "/items/%" PRId64, item.id);
    item_free(&item);
    return reply;
}

static struct reply answer_items(const struct store *store, const struct request *request) {
    if (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0)
        return list_items(store, request);
    if (strcmp(request->method, "POST") == 0)
        return create_item(store, request);
    return not_allowed("GET, HEAD, POST");
}

/* ---- /items/{id} ---- */

static struct reply get_item(const struct store *store, int64_t id) {
    struct item item;
    enum store_result result = store->get(store->self, id, &item);
    if (result != STORE_OK)
        return store_problem(result);
    struct reply reply = with_body(200, item_json(&item));
    item_free(&item);
    return reply;
}

static struct reply update_item(const struct store *store, int64_t id,
                                const struct request *request) {
    char problem[ITEM_PROBLEM_SIZE];
    struct item item;
    if (!item_read(request->body, request->body_len, id, &item, problem))
        return api_problem(400, problem);
    enum store_result result = store->update(store->self, &item);
    struct reply reply =
        result == STORE_OK ? with_body(200, item_json(&item)) : store_problem(result);
    item_free(&item);
    return reply;
}

static struct reply delete_item(const struct store *store, int64_t id) {
    enum store_result result = store->remove(store->self, id);
    return result == STORE_OK ? (struct reply){.status = 204} : store_problem(result);
}

static struct reply answer_item(const struct store *store, const char *id_text,
                                const struct request *request) {
    int64_t id;
    if (!text_number(id_text, 1, INT64_MAX, &id))
        return api_problem(400, "an item's id is a whole number from 1");
    if (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0)
        return get_item(store, id);
    if (strcmp(request->method, "PUT") == 0)
        return update_item(store, id, request);
    if (strcmp(request->method, "DELETE") == 0)
        return delete_item(store, id);
    return not_allowed("GET, HEAD, PUT, DELETE");
}

/* ---- /healthz ---- */

/* Without RabbitMQ the server is as healthy as with it: the events wait. */
static struct reply answer_health(const struct store *store, struct events *events,
                                  const struct request *request) {
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        return not_allowed("GET, HEAD");
    if (!store->healthy(store->self))
        return api_problem(503, "the database cannot be used");
    struct events_status status = {0};
    if (events)
        events_status(events, &status);
    cJSON *json = cJSON_CreateObject();
    bool good = cJSON_AddStringToObject(json, "status", "ok") &&
                cJSON_AddStringToObject(json, "items", events ? "memory" : "postgres") &&
                cJSON_AddStringToObject(json, "events", events ? "direct" : "outbox");
    if (good && events)
        good = cJSON_AddNumberToObject(json, "waiting", (double)status.waiting) &&
               cJSON_AddNumberToObject(json, "lost", (double)status.lost);
    char *body = good ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    return with_body(200, body);
}

struct reply api_answer(const struct store *store, struct events *events,
                        const struct request *request) {
    static const char items[] = "/items";
    const char *path = request->path;
    if (strcmp(path, "/healthz") == 0)
        return answer_health(store, events, request);
    if (strcmp(path, items) == 0)
        return answer_items(store, request);
    size_t len = sizeof items - 1;
    if (strncmp(path, items, len) == 0 && path[len] == '/' && path[len + 1] != '\0' &&
        !strchr(path + len + 1, '/'))
        return answer_item(store, path + len + 1, request);
    return api_problem(404,
                       "there is nothing at this address; there are /items, /items/{id} and "
                       "/healthz");
}
