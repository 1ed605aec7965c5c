/* Sends one message, to the broker that RABBITMQ_URL names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messaging.h"

static const char usage[] =
    "usage: messaging email TO SUBJECT BODY [HTML]\n"
    "       messaging backup DATABASE PATH [uncompressed]\n"
    "       messaging cleanup TARGET DAYS\n"
    "       messaging notification USER email|webhook|app TITLE MESSAGE [DATA]\n";

/* A text that is none, or a number that days cannot be, must not become another number. */
static bool read_days(const char *text, uint32_t *ret_days) {
    char *end;
    errno = 0;
    unsigned long days = strtoul(text, &end, 10);
    *ret_days = (uint32_t)days;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && days <= UINT32_MAX;
}

/* words[0] is the kind; what was not given is NULL. */
static enum leveret_code send_words(struct leveret_publisher *publisher, char **words,
                                    struct leveret_error *err) {
    uint32_t days = 0;
    switch (words[0][0]) {
    case 'e':
        return leveret_send_email(publisher, words[1], words[2], words[3], words[4], NULL, err);
    case 'b':
        return leveret_send_backup(publisher, words[1], words[2], !words[3], NULL, err);
    case 'c':
        (void)read_days(words[2], &days);
        return leveret_send_cleanup(publisher, words[1], days, NULL, err);
    default:
        return leveret_send_notification(publisher, words[1], words[2], words[3], words[4],
                                         words[5], NULL, err);
    }
}

static bool is_usable(int count, char **words) {
    static const struct {
        const char *kind;
        int least, most;
    } kinds[] = {{"email", 4, 5}, {"backup", 3, 4}, {"cleanup", 3, 3}, {"notification", 5, 6}};
    uint32_t days;
    size_t i = 0, known = sizeof kinds / sizeof *kinds;
    while (count > 0 && i < known && strcmp(words[0], kinds[i].kind) != 0)
        i++;
    if (count == 0 || i == known || count < kinds[i].least || count > kinds[i].most)
        return false;
    return words[0][0] != 'c' || read_days(words[2], &days);
}

static enum leveret_code run(char **words, struct leveret_error *err) {
    struct leveret_config *config;
    struct leveret_publisher *publisher = NULL;
    enum leveret_code code = leveret_config_new(&config, err);
    if (code != LEVERET_OK)
        return code;
    code = leveret_config_environment(config, err);
    if (code == LEVERET_OK)
        code = leveret_publisher_new(config, NULL, NULL, &publisher, err);
    leveret_config_free(config);
    if (code == LEVERET_OK)
        code = send_words(publisher, words, err);
    leveret_publisher_free(publisher);
    return code;
}

int main(int argc, char **argv) {
    struct leveret_error err;
    if (!is_usable(argc - 1, argv + 1)) {
        fputs(usage, stderr);
        return 64;
    }
    if (run(argv + 1, &err) != LEVERET_OK) {
        fprintf(stderr, "messaging: %s\n", err.text);
        return 1;
    }
    return 0;
}
