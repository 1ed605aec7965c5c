/* Sends one message, to the broker that RABBITMQ_URL names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messaging.h"

static const char usage[] =
    "usage: messaging email TO SUBJECT BODY [HTML]\n"
    "       messaging backup DATABASE PATH [uncompressed]\n"
    "       messaging cleanup TARGET DAYS\n"
    "       messaging notification USER email|webhook|app TITLE MESSAGE [DATA]\n";

/* words[0] is the kind; what was not given is NULL. */
static enum leveret_code send_words(struct leveret_publisher *publisher, char **words,
                                    struct leveret_error *err) {
    switch (words[0][0]) {
    case 'e':
        return leveret_send_email(publisher, words[1], words[2], words[3], words[4], NULL, err);
    case 'b':
        return leveret_send_backup(publisher, words[1], words[2], !words[3], NULL, err);
    case 'c':
        return leveret_send_cleanup(publisher, words[1], (uint32_t)strtoul(words[2], NULL, 10),
                                    NULL, err);
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
    for (size_t i = 0; count > 0 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(words[0], kinds[i].kind) == 0)
            return count >= kinds[i].least && count <= kinds[i].most;
    return false;
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
