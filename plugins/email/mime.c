/* RFC 5322 (the headers), 2045 to 2047 (parts and encodings). */
#include "email/mime.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_CHARS 76
/* Of text in an encoded word; 52 characters then, and a line of 73 with its marks and "Subject: ".
 */
#define WORD_MAX_BYTES 39
/* Quoted-printable text has two hexadecimal digits or a line's end behind each "=": a line of this
 * kind cannot be in it. */
#define BOUNDARY "=_part_of_this_mail"

/* ---- encodings ---- */

static void write_base64(FILE *out, const char *data, size_t len) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < len; i += 3) {
        unsigned second = i + 1 < len ? bytes[i + 1] : 0, third = i + 2 < len ? bytes[i + 2] : 0;
        unsigned group = (unsigned)bytes[i] << 16 | second << 8 | third;
        fputc(digits[group >> 18], out);
        fputc(digits[group >> 12 & 63], out);
        fputc(i + 1 < len ? digits[group >> 6 & 63] : '=', out);
        fputc(i + 2 < len ? digits[group & 63] : '=', out);
    }
}

/* Each word a line, and no character in two of them. */
static void write_encoded_words(FILE *out, const char *text) {
    size_t len = strlen(text);
    for (size_t at = 0, size; at < len; at += size) {
        size = len - at;
        if (size > WORD_MAX_BYTES) {
            size = WORD_MAX_BYTES;
            while (size > WORD_MAX_BYTES - 4 && ((unsigned char)text[at + size] & 0xc0) == 0x80)
                size--;
        }
        fputs(at == 0 ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?", out);
        write_base64(out, text + at, size);
        fputs("?=", out);
    }
}

/* Whether it reads the same without being encoded, in a line of its own. */
static bool is_plain(const char *text) {
    size_t len = strlen(text);
    if (len > LINE_MAX_CHARS - strlen("Subject: ") || strstr(text, "=?"))
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return len == 0 || (text[0] != ' ' && text[len - 1] != ' ');
}

static void write_text_header(FILE *out, const char *text) {
    if (is_plain(text))
        fputs(text, out);
    else
        write_encoded_words(out, text);
}

static void write_name(FILE *out, const char *name) {
    if (!is_plain(name)) {
        write_encoded_words(out, name);
        return;
    }
    fputc('"', out);
    for (; *name; name++) {
        if (*name == '"' || *name == '\\')
            fputc('\\', out);
        fputc(*name, out);
    }
    fputc('"', out);
}

/* How many bytes of a line's end stand there: CRLF, or one of them alone. */
static size_t line_end(struct leveret_text text, size_t at) {
    if (at == text.len)
        return 0;
    if (text.data[at] == '\r')
        return at + 1 < text.len && text.data[at + 1] == '\n' ? 2 : 1;
    return text.data[at] == '\n';
}

static void write_quoted_printable(FILE *out, struct leveret_text text) {
    size_t column = 0;
    for (size_t at = 0; at < text.len;) {
        size_t ends = line_end(text, at);
        if (ends > 0) {
            fputs("\r\n", out);
            column = 0;
            at += ends;
            continue;
        }
        unsigned char byte = (unsigned char)text.data[at++];
        bool trailing = at == text.len || line_end(text, at) > 0;
        bool plain = (byte > ' ' && byte <= '~' && byte != '=') ||
                     ((byte == ' ' || byte == '\t') && !trailing);
        size_t width = plain ? 1 : 3;
        if (column + width > LINE_MAX_CHARS - 1) {
            fputs("=\r\n", out);
            column = 0;
        }
        if (plain)
            fputc(byte, out);
        else
            fprintf(out, "=%02X", byte);
        column += width;
    }
    fputs("\r\n", out);
}

/* ---- the mail ---- */

static void write_date(FILE *out, time_t date) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    gmtime_r(&date, &tm);
    fprintf(out, "Date: %.3s, %d %.3s %d %02d:%02d:%02d +0000\r\n", days + tm.tm_wday * 3,
            tm.tm_mday, months + tm.tm_mon * 3, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
            tm.tm_sec);
}

static void write_part(FILE *out, const char *type, struct leveret_text text) {
    fprintf(out,
            "Content-Type: text/%s; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
            type);
    write_quoted_printable(out, text);
}

static void write_mail(FILE *out, const struct lvt_mail *mail) {
    write_date(out, mail->date);
    fputs("From: ", out);
    if (mail->from_name) {
        write_name(out, mail->from_name);
        fputc(' ', out);
    }
    fprintf(out, "<%s>\r\nTo: <%s>\r\nSubject: ", mail->from, mail->to);
    write_text_header(out, mail->subject);
    fprintf(out, "\r\nMessage-ID: %s\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n",
            mail->message_id);
    if (!mail->html.data) {
        write_part(out, "plain", mail->text);
    } else if (!mail->text.data) {
        write_part(out, "html", mail->html);
    } else {
        /* The last one is the one to show, by whoever can. */
        fputs("Content-Type: multipart/alternative; boundary=\"" BOUNDARY
              "\"\r\n\r\n"
              "--" BOUNDARY "\r\n",
              out);
        write_part(out, "plain", mail->text);
        fputs("--" BOUNDARY "\r\n", out);
        write_part(out, "html", mail->html);
        fputs("--" BOUNDARY "--\r\n", out);
    }
}

char *lvt_mime_build(const struct lvt_mail *mail, size_t *ret_len) {
    char *message = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&message, &len);
    if (!out)
        return NULL;
    write_mail(out, mail);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(message);
        return NULL;
    }
    *ret_len = len;
    return message;
}
