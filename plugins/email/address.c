/* What may stand in a mail's headers and in SMTP's commands. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "email/mime.h"

#define ADDRESS_MAX 254 /* RFC 5321, less the angle brackets */
#define LOCAL_MAX 64
#define ID_MAX 128

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool has_control(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

/* Words of these characters, with a dot between two of them. */
static bool is_dotted(const char *text, size_t len, const char *others) {
    for (size_t i = 0; i < len; i++) {
        bool dot = text[i] == '.' && i > 0 && text[i - 1] != '.' && i + 1 < len;
        if (!dot && !is_alnum(text[i]) && !(text[i] && strchr(others, text[i])))
            return false;
    }
    return len > 0;
}

/* Of the forms that RFC 5321 knows the one that is in use: no comments, no quotes, no literals. */
bool lvt_mail_address_check(const char *address, const char *what, struct lvt_failure *failure) {
    const char *at = strrchr(address, '@');
    if (strpbrk(address, "\r\n"))
        return lvt_failed(failure, LEVERET_REJECT, "%s has a line break", what);
    if (has_control(address))
        return lvt_failed(failure, LEVERET_REJECT, "%s has a control character", what);
    if (!at || strlen(address) > ADDRESS_MAX || at - address > LOCAL_MAX ||
        !is_dotted(address, (size_t)(at - address), "!#$%&'*+-/=?^_`{|}~") ||
        !is_dotted(at + 1, strlen(at + 1), "-") || at[1] == '-')
        return lvt_failed(failure, LEVERET_REJECT,
                          "%s is no mail address of the form name@host, in ASCII", what);
    return true;
}

bool lvt_mail_header_check(const char *text, const char *what, struct lvt_failure *failure) {
    if (strpbrk(text, "\r\n"))
        return lvt_failed(failure, LEVERET_REJECT, "%s has a line break", what);
    if (has_control(text))
        return lvt_failed(failure, LEVERET_REJECT, "%s has a control character", what);
    if (strlen(text) > 998)
        return lvt_failed(failure, LEVERET_REJECT, "%s is longer than 998 bytes", what);
    return true;
}

/* FNV-1a, of 64 bits. */
static unsigned long long hash(struct leveret_text text) {
    unsigned long long value = 14695981039346656037u;
    for (size_t i = 0; i < text.len; i++)
        value = (value ^ (unsigned char)text.data[i]) * 1099511628211u;
    return value;
}

void lvt_mail_message_id(struct leveret_text id, const char *from, char *buffer, size_t size) {
    const char *host = strrchr(from, '@');
    unsigned long long number;
    if (id.len > 0 && id.len <= ID_MAX && is_dotted(id.data, id.len, "-_+=")) {
        snprintf(buffer, size, "<%.*s%s>", (int)id.len, id.data, host);
        return;
    }
    number = hash(id);
    if (id.len == 0 && getrandom(&number, sizeof number, 0) != sizeof number)
        number = (unsigned long long)time(NULL);
    snprintf(buffer, size, "<leveret-%016llx%s>", number, host);
}
