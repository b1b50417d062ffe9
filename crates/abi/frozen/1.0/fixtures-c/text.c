/* text.c - texts: compared, split, read as numbers, and built.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

sv_str str(const char *text)
{
    return (sv_str){text, text == NULL ? 0 : strlen(text)};
}

bool is(sv_str text, const char *other)
{
    return text.len == strlen(other) && begins_with(text, other);
}

bool begins_with(sv_str text, const char *with)
{
    const size_t len = strlen(with);
    return text.len >= len && (len == 0 || memcmp(text.ptr, with, len) == 0);
}

void split(sv_str whole, char at, sv_str *first, sv_str *second)
{
    const char *found = whole.len == 0 ? NULL : memchr(whole.ptr, at, whole.len);
    *first = whole;
    second->ptr = NULL;
    second->len = 0;
    if (found == NULL) return;
    first->len = (size_t)(found - whole.ptr);
    second->ptr = found + 1;
    second->len = whole.len - first->len - 1;
}

bool number(sv_str text, int64_t least, int64_t most, int64_t *value)
{
    char digits[24], *end;
    if (text.len == 0 || text.len >= sizeof digits) return false;
    memcpy(digits, text.ptr, text.len);
    digits[text.len] = '\0';
    errno = 0;
    *value = strtoll(digits, &end, 10);
    return errno == 0 && end == digits + text.len && *value >= least && *value <= most;
}

void add(text *to, const char *bytes, size_t len)
{
    if (to->failed || len == 0) return;
    if (len > to->capacity - to->len) {
        size_t capacity = to->capacity == 0 ? 256 : to->capacity;
        while (len > capacity - to->len && capacity <= SIZE_MAX / 4) capacity *= 2;
        char *grown = len > capacity - to->len ? NULL : realloc(to->ptr, capacity);
        if (grown == NULL) {
            to->failed = true;
            return;
        }
        to->ptr = grown;
        to->capacity = capacity;
    }
    memcpy(to->ptr + to->len, bytes, len);
    to->len += len;
}

void add_str(text *to, sv_str bytes)
{
    add(to, bytes.ptr, bytes.len);
}

/* Returns how long the character at the beginning is in UTF-8 (RFC 3629 4); 0: it is none. */
static size_t character(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) return 1;
    const size_t wanted = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || wanted > len) return 0;
    /* No second form of a shorter one, no surrogate, nothing over U+10FFFF. */
    const unsigned char least = at[0] == 0xe0 ? 0xa0 : at[0] == 0xf0 ? 0x90 : 0x80;
    const unsigned char most = at[0] == 0xed ? 0x9f : at[0] == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most) return 0;
    for (size_t i = 2; i < wanted; i++)
        if (at[i] < 0x80 || at[i] > 0xbf) return 0;
    return wanted;
}

static bool is_utf8(sv_str text)
{
    for (size_t i = 0, len; i < text.len; i += len) {
        len = character(text.ptr + i, text.len - i);
        if (len == 0) return false;
    }
    return true;
}

void add_utf8(text *to, sv_str bytes)
{
    if (is_utf8(bytes)) {
        add_str(to, bytes);
        return;
    }
    for (size_t i = 0; i < bytes.len; i++) {
        const unsigned char byte = (unsigned char)bytes.ptr[i];
        const char two[] = {(char)(0xc0 | byte >> 6), (char)(0x80 | (byte & 0x3f))};
        if (byte < 0x80) add(to, bytes.ptr + i, 1);
        else add(to, two, sizeof two);
    }
}

void add_latin1(text *to, sv_str utf8)
{
    for (size_t i = 0, len; i < utf8.len; i += len) {
        const unsigned char first = (unsigned char)utf8.ptr[i];
        len = character(utf8.ptr + i, utf8.len - i);
        if (len == 0) len = 1; /* cannot be: scripts are UTF-8 */
        char byte = '?';
        if (first < 0x80) byte = utf8.ptr[i];
        else if (len == 2 && first <= 0xc3) byte = (char)(first << 6 | (utf8.ptr[i + 1] & 0x3f));
        add(to, &byte, 1);
    }
}
