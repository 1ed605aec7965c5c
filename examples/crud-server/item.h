/* An item: what clients send, what is stored, what goes out in events. */
#ifndef ITEM_H
#define ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ITEM_NAME_MAX 200 /* characters, as for the description */
#define ITEM_DESCRIPTION_MAX 2000
#define ITEM_PRICE_MAX 999999999999 /* in hundredths */
#define ITEM_NO_PRICE (-1)

struct item {
    int64_t id; /* from 1 on */
    char *name, *description;
    int64_t price; /* in hundredths, exactly, or ITEM_NO_PRICE */
};

/* Of an item's texts. One that is all zero is fine. */
void item_free(struct item *item);
/* False when out of memory. */
bool item_copy(const struct item *from, struct item *ret);

#define ITEM_PROBLEM_SIZE 200

/* Reads what a client sent for the item `id`, or for a new one with id 0; a NUL follows the body.
 * False with a text that says what is wrong. item_free frees *ret. */
bool item_read(const char *body, size_t len, int64_t id, struct item *ret,
               char problem[ITEM_PROBLEM_SIZE]);

/* "12.50"; the text lasts as long as the buffer. */
const char *item_price_text(int64_t price, char buffer[24]);

/* JSON, which free() frees; NULL when out of memory. */
char *item_json(const struct item *item);
char *item_list_json(const struct item *items, size_t count);
/* {type, item, timestamp}, with the time that it is. */
char *item_event_json(const char *type, const struct item *item);

#endif
