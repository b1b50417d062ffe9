/* json.c - writes JSON (RFC 8259).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The byte before tells: only after a whole value there has to be a comma. */
static void separate(text *to)
{
    const char last = to->len == 0 ? '[' : to->ptr[to->len - 1];
    if (last != '{' && last != '[' && last != ':') add(to, ",", 1);
}

static void quote(text *to, sv_str value)
{
    add(to, "\"", 1);
    for (size_t i = 0; i < value.len; i++) {
        const unsigned char byte = (unsigned char)value.ptr[i];
        char escape[8];
        if (byte == '"' || byte == '\\') add(to, "\\", 1);
        if (byte >= 0x20) add(to, value.ptr + i, 1);
        else add(to, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", byte));
    }
    add(to, "\"", 1);
}

void json_name(text *to, sv_str name)
{
    separate(to);
    quote(to, name);
    add(to, ":", 1);
}

static void begin(text *to, const char *name)
{
    if (name == NULL) separate(to);
    else json_name(to, str(name));
}

void json_open(text *to, const char *name, char bracket)
{
    begin(to, name);
    add(to, &bracket, 1);
}

void json_close(text *to, char bracket)
{
    add(to, &bracket, 1);
}

void json_text(text *to, const char *name, sv_str value)
{
    begin(to, name);
    if (value.ptr == NULL) {
        add(to, SV_LIT("null"));
        return;
    }
    text utf8 = {NULL, 0, 0, false};
    add_utf8(&utf8, value);
    quote(to, (sv_str){utf8.ptr, utf8.len});
    to->failed = to->failed || utf8.failed;
    free(utf8.ptr);
}

void json_int(text *to, const char *name, int64_t value)
{
    char digits[24];
    begin(to, name);
    add(to, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, value));
}

void json_bool(text *to, const char *name, bool value)
{
    begin(to, name);
    if (value) add(to, SV_LIT("true"));
    else add(to, SV_LIT("false"));
}
