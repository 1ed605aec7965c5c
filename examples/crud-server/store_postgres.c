/* Items in PostgreSQL. A change and its event are one statement, so that both are there or none. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres.h"
#include "store.h"

/* The lock makes servers that start at once create the table one after the other. The last line
 * fails, with a text that says so, where `leveret migrate` has not been. */
static const char setup[] =
    "SET statement_timeout = '5s';"
    "SET client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(hashtext('crud-server'));"
    "CREATE TABLE IF NOT EXISTS items ("
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  name text NOT NULL,"
    "  description text NOT NULL,"
    "  price numeric(12, 2));"
    "SELECT 'leveret_publish'::regproc";

#define COLUMNS "id, name, description, price"

/* A statement that changes one row, and publishes what became of it. Events of one item leave in
 * the order of its changes, for they share a key. */
#define CHANGE_AND_PUBLISH(change, type)                                                           \
    "WITH changed AS (" change " RETURNING " COLUMNS                                               \
    ") "                                                                                           \
    "SELECT " COLUMNS ", leveret_publish('" type                                                   \
    "', jsonb_build_object("                                                                       \
    " 'type', '" type                                                                              \
    "', 'item', to_jsonb(changed), 'timestamp',"                                                   \
    " to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')),"        \
    " whole => true, queue => '" EVENTS_QUEUE "', key => 'item ' || id) FROM changed"

static const char create_sql[] = CHANGE_AND_PUBLISH(
    "INSERT INTO items (name, description, price) VALUES ($1, $2, $3::numeric)", "item.created");
static const char update_sql[] = CHANGE_AND_PUBLISH(
    "UPDATE items SET name = $1, description = $2, price = $3::numeric WHERE id = $4::bigint",
    "item.updated");
static const char remove_sql[] =
    CHANGE_AND_PUBLISH("DELETE FROM items WHERE id = $1::bigint", "item.deleted");

static const char *id_text(int64_t id, char buffer[24]) {
    snprintf(buffer, 24, "%" PRId64, id);
    return buffer;
}

/* "12.50", as numeric(12, 2) always is, in hundredths. */
static int64_t read_price(const char *text) {
    const char *point = strchr(text, '.');
    return strtoll(text, NULL, 10) * 100 + (point ? strtoll(point + 1, NULL, 10) : 0);
}

static bool read_row(const PGresult *result, int row, struct item *ret) {
    const struct item item = {
        .id = strtoll(PQgetvalue(result, row, 0), NULL, 10),
        .name = PQgetvalue(result, row, 1),
        .description = PQgetvalue(result, row, 2),
        .price =
            PQgetisnull(result, row, 3) ? ITEM_NO_PRICE : read_price(PQgetvalue(result, row, 3)),
    };
    return item_copy(&item, ret);
}

/* For statements that find one row or none. */
static enum store_result one_row(PGresult *result, struct item *ret_item) {
    enum store_result found = result ? STORE_NOT_FOUND : STORE_AWAY;
    if (result && PQntuples(result) == 1)
        found = !ret_item || read_row(result, 0, ret_item) ? STORE_OK : STORE_FULL;
    PQclear(result);
    return found;
}

static enum store_result create(void *self, struct item *item) {
    char price[24];
    const char *parameters[] = {item->name, item->description,
                                item->price == ITEM_NO_PRICE ? NULL
                                                             : item_price_text(item->price, price)};
    PGresult *result = postgres_run(self, create_sql, parameters, 3);
    if (result)
        item->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    return one_row(result, NULL);
}

static enum store_result get(void *self, int64_t id, struct item *ret_item) {
    char number[24];
    const char *parameters[] = {id_text(id, number)};
    return one_row(
        postgres_run(self, "SELECT " COLUMNS " FROM items WHERE id = $1::bigint", parameters, 1),
        ret_item);
}

static enum store_result list(void *self, int64_t after, size_t limit, struct item **ret_items,
                              size_t *ret_count) {
    char number[24], most[24];
    const char *parameters[] = {id_text(after, number), id_text((int64_t)limit, most)};
    PGresult *result = postgres_run(
        self, "SELECT " COLUMNS " FROM items WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint",
        parameters, 2);
    if (!result)
        return STORE_AWAY;
    size_t rows = (size_t)PQntuples(result), count = 0;
    struct item *items = calloc(rows + 1, sizeof *items);
    while (items && count < rows && read_row(result, (int)count, &items[count]))
        count++;
    PQclear(result);
    if (items && count == rows) {
        *ret_items = items;
        *ret_count = count;
        return STORE_OK;
    }
    while (count > 0)
        item_free(&items[--count]);
    free(items);
    return STORE_FULL;
}

static enum store_result update(void *self, const struct item *item) {
    char price[24], number[24];
    const char *parameters[] = {item->name, item->description,
                                item->price == ITEM_NO_PRICE ? NULL
                                                             : item_price_text(item->price, price),
                                id_text(item->id, number)};
    return one_row(postgres_run(self, update_sql, parameters, 4), NULL);
}

static enum store_result remove_item(void *self, int64_t id) {
    char number[24];
    const char *parameters[] = {id_text(id, number)};
    return one_row(postgres_run(self, remove_sql, parameters, 1), NULL);
}

static bool healthy(void *self) {
    PGresult *result = postgres_run(self, "SELECT 1", NULL, 0);
    PQclear(result);
    return result != NULL;
}

static void close_store(void *self) {
    postgres_free(self);
}

bool store_in_postgres(const char *url, struct store *ret_store) {
    /* libpq's own text would show a password. */
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    if (!options)
        return false;
    PQconninfoFree(options);
    struct postgres *postgres = postgres_new(url, setup);
    if (!postgres)
        return false;
    *ret_store =
        (struct store){postgres, create, get, list, update, remove_item, healthy, close_store};
    return true;
}
