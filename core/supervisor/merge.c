#include "supervisor/merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 256

enum rule { ADD, LARGEST, SMALLEST };

struct sample {
    struct sample *next;      /* of its family */
    struct sample *hash_next; /* of its bucket */
    double value;
    size_t hash, len;
    char name[]; /* with its labels */
};

struct family {
    struct family *next;
    struct sample *first, **last;
    enum rule rule;
    bool counter; /* or a histogram: it only goes up */
    size_t name_len, head_len;
    char head[]; /* its comments; the name is in them, behind "# HELP " */
};

struct lvt_merge {
    struct family *first, **last;
    struct sample **buckets;
    size_t bucket_count, sample_count;
    bool failed;
};

struct lvt_merge *lvt_merge_new(void) {
    struct lvt_merge *merge = calloc(1, sizeof *merge);
    if (!merge)
        return NULL;
    merge->last = &merge->first;
    merge->bucket_count = BUCKETS_FIRST;
    merge->buckets = calloc(merge->bucket_count, sizeof *merge->buckets);
    if (merge->buckets)
        return merge;
    free(merge);
    return NULL;
}

void lvt_merge_free(struct lvt_merge *merge) {
    if (!merge)
        return;
    while (merge->first) {
        struct family *family = merge->first;
        merge->first = family->next;
        while (family->first) {
            struct sample *sample = family->first;
            family->first = sample->next;
            free(sample);
        }
        free(family);
    }
    free(merge->buckets);
    free(merge);
}

/* ---- samples ---- */

static void grow(struct lvt_merge *merge) {
    size_t count = merge->bucket_count * 2;
    struct sample **buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return; /* longer chains do no harm */
    for (struct family *family = merge->first; family; family = family->next)
        for (struct sample *sample = family->first; sample; sample = sample->next) {
            sample->hash_next = buckets[sample->hash & (count - 1)];
            buckets[sample->hash & (count - 1)] = sample;
        }
    free(merge->buckets);
    merge->buckets = buckets;
    merge->bucket_count = count;
}

static void combine(struct sample *sample, enum rule rule, double value) {
    if (rule == ADD)
        sample->value += value;
    else if (rule == LARGEST ? value > sample->value : value < sample->value)
        sample->value = value;
}

static void add_sample(struct lvt_merge *merge, struct family *family, struct lvt_bytes name,
                       double value) {
    size_t hash = lvt_bytes_hash(name);
    struct sample *sample = merge->buckets[hash & (merge->bucket_count - 1)];
    while (sample && (sample->len != name.len || memcmp(sample->name, name.data, name.len) != 0))
        sample = sample->hash_next;
    if (sample) {
        combine(sample, family->rule, value);
        return;
    }
    sample = malloc(sizeof *sample + name.len);
    if (!sample) {
        merge->failed = true;
        return;
    }
    if (merge->sample_count++ >= merge->bucket_count)
        grow(merge);
    struct sample **bucket = &merge->buckets[hash & (merge->bucket_count - 1)];
    *sample = (struct sample){.hash_next = *bucket, .value = value, .hash = hash, .len = name.len};
    memcpy(sample->name, name.data, name.len);
    *bucket = sample;
    *family->last = sample;
    family->last = &sample->next;
}

/* ---- families ---- */

static bool ends_with(struct lvt_bytes text, const char *end) {
    size_t len = strlen(end);
    return text.len >= len && memcmp(text.data + text.len - len, end, len) == 0;
}

static enum rule rule_of(struct lvt_bytes name) {
    static const char *const seen_by_all[] = {"leveret_queue_depth", "leveret_consumers",
                                              "leveret_uptime_seconds", "leveret_up"};
    if (lvt_bytes_is(name, "leveret_connected"))
        return SMALLEST;
    for (size_t i = 0; i < sizeof seen_by_all / sizeof seen_by_all[0]; i++)
        if (lvt_bytes_is(name, seen_by_all[i]))
            return LARGEST;
    return ends_with(name, "_info") ? LARGEST : ADD;
}

static const char help_mark[] = "# HELP ";
#define MARK_LEN (sizeof help_mark - 1)

static struct lvt_bytes name_of(const struct family *family) {
    return lvt_bytes(family->head + MARK_LEN, family->name_len);
}

static struct lvt_bytes word(struct lvt_bytes text) {
    const char *end = memchr(text.data, ' ', text.len);
    return end ? lvt_bytes(text.data, (size_t)(end - text.data)) : text;
}

/* head: the HELP and the TYPE line, as leveret writes them. NULL when out of memory. */
static struct family *find_family(struct lvt_merge *merge, struct lvt_bytes head) {
    struct lvt_bytes name = word(lvt_bytes(head.data + MARK_LEN, head.len - MARK_LEN));
    for (struct family *family = merge->first; family; family = family->next)
        if (lvt_bytes_equal(name_of(family), name))
            return family;
    struct family *family = malloc(sizeof *family + head.len);
    if (!family) {
        merge->failed = true;
        return NULL;
    }
    bool gauge = ends_with(head, " gauge\n");
    *family = (struct family){.rule = gauge ? rule_of(name) : ADD,
                              .counter = !gauge,
                              .name_len = name.len,
                              .head_len = head.len};
    memcpy(family->head, head.data, head.len);
    family->last = &family->first;
    *merge->last = family;
    merge->last = &family->next;
    return family;
}

/* ---- texts ---- */

/* The next line, with its end. */
static struct lvt_bytes take_line(struct lvt_bytes *text) {
    const char *end = memchr(text->data, '\n', text->len);
    size_t len = end ? (size_t)(end - text->data) + 1 : text->len;
    struct lvt_bytes line = lvt_bytes(text->data, len);
    text->data += len;
    text->len -= len;
    return line;
}

static bool starts_with(struct lvt_bytes text, const char *start) {
    size_t len = strlen(start);
    return text.len >= len && memcmp(text.data, start, len) == 0;
}

/* The value is behind the last space: a label's may hold some. */
static void read_sample(struct lvt_merge *merge, struct family *family, struct lvt_bytes line) {
    size_t at = line.len;
    char number[64];
    while (at > 0 && line.data[at - 1] != ' ')
        at--;
    size_t len = line.len - at;
    if (at < 2 || len < 2 || len > sizeof number || line.data[line.len - 1] != '\n')
        return;
    memcpy(number, line.data + at, len - 1);
    number[len - 1] = 0;
    add_sample(merge, family, lvt_bytes(line.data, at - 1), strtod(number, NULL));
}

static void add(struct lvt_merge *merge, struct lvt_bytes text, bool only_counters) {
    struct family *family = NULL;
    while (merge && text.len > 0) {
        struct lvt_bytes line = take_line(&text);
        if (starts_with(line, help_mark)) {
            struct lvt_bytes type = take_line(&text);
            family = starts_with(type, "# TYPE ")
                         ? find_family(merge, lvt_bytes(line.data, line.len + type.len))
                         : NULL;
        } else if (family && (family->counter || !only_counters)) {
            read_sample(merge, family, line);
        }
    }
}

void lvt_merge_add(struct lvt_merge *merge, struct lvt_bytes text) {
    add(merge, text, false);
}

void lvt_merge_add_counters(struct lvt_merge *merge, struct lvt_bytes text) {
    add(merge, text, true);
}

void lvt_merge_write(const struct lvt_merge *merge, struct lvt_buffer *out) {
    for (const struct family *family = merge ? merge->first : NULL; family; family = family->next) {
        lvt_buffer_append(out, family->head, family->head_len);
        for (const struct sample *sample = family->first; sample; sample = sample->next) {
            lvt_buffer_append(out, sample->name, sample->len);
            lvt_buffer_printf(out, sample->value == floor(sample->value) ? " %.0f\n" : " %.3f\n",
                              sample->value);
        }
    }
    if (!merge || merge->failed)
        out->failed = true;
}
