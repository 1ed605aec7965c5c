#include "item.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

void item_free(struct item *item) {
    free(item->name);
    free(item->description);
    *item = (struct item){0};
}

bool item_copy(const struct item *from, struct item *ret) {
    struct item copy = {from->id, strdup(from->name), strdup(from->description), from->price};
    if (!copy.name || !copy.description) {
        item_free(&copy);
        return false;
    }
    *ret = copy;
    return true;
}

/* ---- reading ---- */

static bool wrong(char problem[ITEM_PROBLEM_SIZE], const char *format, const char *name) {
    snprintf(problem, ITEM_PROBLEM_SIZE, format, name);
    return false;
}

static bool read_text(const cJSON *member, size_t max, bool lines, char **ret_text,
                      char problem[ITEM_PROBLEM_SIZE]) {
    const char *name = member->string;
    if (!cJSON_IsString(member))
        return wrong(problem, "%s must be a text", name);
    size_t length;
    switch (text_check(member->valuestring, lines, &length)) {
    case TEXT_OK:
        break;
    case TEXT_NOT_UTF8:
        return wrong(problem, "%s is not valid UTF-8", name);
    case TEXT_CONTROL:
        return wrong(problem, "%s has a control character", name);
    }
    if (length > max) {
        snprintf(problem, ITEM_PROBLEM_SIZE, "%s is longer than %zu characters", name, max);
        return false;
    }
    *ret_text = strdup(member->valuestring);
    return *ret_text || wrong(problem, "out of memory for %s", name);
}

static bool read_price(const cJSON *member, int64_t *ret_price, char problem[ITEM_PROBLEM_SIZE]) {
    if (cJSON_IsNull(member))
        return true;
    if (!cJSON_IsNumber(member))
        return wrong(problem, "%s must be a number, or null", member->string);
    double hundredths = member->valuedouble * 100;
    if (!(hundredths >= 0 && hundredths <= (double)ITEM_PRICE_MAX))
        return wrong(problem, "%s must be from 0 to 9999999999.99", member->string);
    /* What is further off than a double's rounding was typed. */
    double whole = round(hundredths);
    if (fabs(hundredths - whole) > hundredths * 1e-15)
        return wrong(problem, "%s must have at most two decimals", member->string);
    *ret_price = (int64_t)whole;
    return true;
}

/* An item that was read may be sent back as it is, with its id. */
static bool check_id(const cJSON *member, int64_t id, char problem[ITEM_PROBLEM_SIZE]) {
    if (id == 0)
        return wrong(problem, "%s is for the server to choose", member->string);
    if (!cJSON_IsNumber(member) || member->valuedouble != (double)id)
        return wrong(problem, "%s must be that of the address", member->string);
    return true;
}

/* Its name is shown when it can be: it is the client's. */
static bool unknown(const cJSON *member, char problem[ITEM_PROBLEM_SIZE]) {
    size_t length;
    bool plain = text_check(member->string, false, &length) == TEXT_OK && length <= 30;
    return wrong(problem, "an item has name, description and price, but no %s",
                 plain ? member->string : "such member");
}

static bool read_member(const cJSON *json, const cJSON *member, struct item *item,
                        char problem[ITEM_PROBLEM_SIZE]) {
    if (cJSON_GetObjectItemCaseSensitive(json, member->string) != member)
        return wrong(problem, "a member is there more than once", "");
    if (strcmp(member->string, "name") == 0)
        return read_text(member, ITEM_NAME_MAX, false, &item->name, problem);
    if (strcmp(member->string, "description") == 0)
        return read_text(member, ITEM_DESCRIPTION_MAX, true, &item->description, problem);
    if (strcmp(member->string, "price") == 0)
        return read_price(member, &item->price, problem);
    if (strcmp(member->string, "id") == 0)
        return check_id(member, item->id, problem);
    return unknown(member, problem);
}

static bool read_members(const cJSON *json, struct item *item, char problem[ITEM_PROBLEM_SIZE]) {
    const cJSON *member;
    cJSON_ArrayForEach(member, json) {
        if (!read_member(json, member, item, problem))
            return false;
    }
    if (!item->name || !*item->name)
        return wrong(problem, "name is %s", item->name ? "empty" : "missing");
    if (!item->description)
        item->description = strdup("");
    return item->description || wrong(problem, "out of memory for %s", "description");
}

bool item_read(const char *body, size_t len, int64_t id, struct item *ret,
               char problem[ITEM_PROBLEM_SIZE]) {
    struct item item = {.id = id, .price = ITEM_NO_PRICE};
    /* A C string ends at a NUL, so that what cJSON returns would hide one. */
    if (text_has_nul(body, len))
        return wrong(problem, "%s has a NUL character", "the body");
    cJSON *json = cJSON_ParseWithLengthOpts(body, len + 1, NULL, true);
    bool good = false;
    if (!cJSON_IsObject(json))
        wrong(problem, "the body is not %s", json ? "a JSON object" : "JSON");
    else
        good = read_members(json, &item, problem);
    cJSON_Delete(json);
    if (!good) {
        item_free(&item);
        return false;
    }
    *ret = item;
    return true;
}

/* ---- writing ---- */

const char *item_price_text(int64_t price, char buffer[24]) {
    snprintf(buffer, 24, "%" PRId64 ".%02d", price / 100, (int)(price % 100));
    return buffer;
}

/* Numbers are written by hand: cJSON has doubles only. */
static cJSON *to_json(const struct item *item) {
    char number[24];
    cJSON *json = cJSON_CreateObject();
    snprintf(number, sizeof number, "%" PRId64, item->id);
    bool good = cJSON_AddRawToObject(json, "id", number) &&
                cJSON_AddStringToObject(json, "name", item->name) &&
                cJSON_AddStringToObject(json, "description", item->description);
    const char *price =
        item->price == ITEM_NO_PRICE ? "null" : item_price_text(item->price, number);
    if (good && cJSON_AddRawToObject(json, "price", price))
        return json;
    cJSON_Delete(json);
    return NULL;
}

static char *print_and_delete(cJSON *json) {
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    return text;
}

/* Adds to an array, or with a name to an object; takes the value, also when it fails. */
static bool put(cJSON *json, const char *name, cJSON *value) {
    if (value &&
        (name ? cJSON_AddItemToObject(json, name, value) : cJSON_AddItemToArray(json, value)))
        return true;
    cJSON_Delete(value);
    return false;
}

char *item_json(const struct item *item) {
    return print_and_delete(to_json(item));
}

char *item_list_json(const struct item *items, size_t count) {
    cJSON *json = cJSON_CreateArray();
    bool good = json != NULL;
    for (size_t i = 0; i < count && good; i++)
        good = put(json, NULL, to_json(&items[i]));
    if (good)
        return print_and_delete(json);
    cJSON_Delete(json);
    return NULL;
}

char *item_event_json(const char *type, const struct item *item) {
    char text[64];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &utc));
    snprintf(text + len, sizeof text - len, ".%06ldZ", now.tv_nsec / 1000);
    cJSON *json = cJSON_CreateObject();
    if (cJSON_AddStringToObject(json, "type", type) && put(json, "item", to_json(item)) &&
        cJSON_AddStringToObject(json, "timestamp", text))
        return print_and_delete(json);
    cJSON_Delete(json);
    return NULL;
}
