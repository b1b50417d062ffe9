/* fixtures.h - what the files of this library share.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The servlets echo, act, http and lastmod and the filter trace of the conformance vectors, in C against servlet.h
 * alone, as crates/abi/FIXTURES.md works them out; ../conformance is the same in Rust. Begin to read in module.c: it is
 * what the server sees.
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o fixtures.so *.c
 */
#ifndef FIXTURES_H
#define FIXTURES_H

#include "servlet.h"

#include <stdbool.h>

/* The server's table. Set by init, before anything else is called, so no lock is needed. */
extern const sv_host *host;

/* ------------------------------------------------------------------------------------------------ module.c */
typedef struct step step;

/* A servlet or a filter as web.toml names and configures it: what its create makes and its destroy frees. */
typedef struct instance {
    const sv_config *config; /* the server's; lives as long as we do */
    step *steps;             /* act: the init parameter `do` */
    size_t step_count;
    int64_t changed;         /* lastmod: the init parameter `ms`; -1: not known */
    bool blocks;             /* trace: the init parameter `mode` is `block` */
} instance;

/* Returns an init parameter; absent: it is not set. */
sv_str init_parameter(const instance *self, const char *name);

/* ------------------------------------------------------------------------------------------------ text.c */
sv_str str(const char *text); /* NULL: absent */
bool is(sv_str text, const char *other);
bool begins_with(sv_str text, const char *with);

/* Splits at the first occurrence of a byte, which neither half has. Without one, all is the first half, and the second
   is absent. */
void split(sv_str whole, char at, sv_str *first, sv_str *second);

/* A decimal number, maybe with a sign; false: it is none, or outside of these bounds. */
bool number(sv_str text, int64_t least, int64_t most, int64_t *value);

/* Bytes that grow. Starts as all zeros; free(ptr) ends it. Without memory it stays as it is and remembers that, so that
   who builds a text looks once, at its end. */
typedef struct text {
    char *ptr;
    size_t len, capacity;
    bool failed;
} text;
void add(text *to, const char *bytes, size_t len);
void add_str(text *to, sv_str bytes);
/* As UTF-8: bytes that are not UTF-8 are taken as Latin-1, as Tomcat reads headers. */
void add_utf8(text *to, sv_str bytes);
/* UTF-8 as Latin-1; a question mark for what has no place there. */
void add_latin1(text *to, sv_str utf8);

/* ------------------------------------------------------------------------------------------------ json.c */
/* Values are written in order, and commas by themselves. A `name` of NULL is a value in an array. */
void json_open(text *to, const char *name, char bracket);
void json_close(text *to, char bracket);
void json_name(text *to, sv_str name);
void json_text(text *to, const char *name, sv_str value); /* absent: null */
void json_int(text *to, const char *name, int64_t value);
void json_bool(text *to, const char *name, bool value);

/* ------------------------------------------------------------------------------------------------ echo.c */
sv_status echo_service(void *servlet, sv_exchange *x, void **task);
const char *dispatcher(uint32_t dispatch); /* "REQUEST", ... */

/* ------------------------------------------------------------------------------------------------ act.c */
sv_status act_service(void *servlet, sv_exchange *x, void **task);
sv_status act_poll(void *task, sv_exchange *x);

/* Finds the steps of a script; false: no memory. */
bool parse_script(sv_str lines, step **steps, size_t *count);

/* A script in one dispatch. */
typedef struct script {
    void *servlet; /* the instance of act */
    sv_exchange *x;
    const step *step; /* the current one */
    text shown; /* what `committed` and `try:` have found, for `show` */
    enum { AT_ONCE, NEVER, BY_JOB, BY_DISPATCH } ends; /* how the exchange goes on when the script is through */
    sv_str argument; /* BY_JOB: what the job writes; BY_DISPATCH: the path */
} script;

/* Writes to the body as Java's "writer" or "stream", of which a response has only one: SV_E_STATE. */
sv_status write_as(sv_exchange *x, const char *kind, sv_str utf8);
/* Forgets which of them it was, and that the head was closed. */
sv_status write_anew(sv_exchange *x);
/* After an error, a redirect or a forward Java drops what is done to the head; servlet.h would still take headers. */
sv_status close_head(sv_exchange *x);
bool head_is_closed(sv_exchange *x);
/* Is it the writer by now? Then its charset is fixed. */
bool has_writer(sv_exchange *x);
/* The charset of a writer to come. */
sv_status remember_charset(sv_exchange *x, sv_str charset);

/* In Java a head that is too late changes nothing, and is no error: SV_E_STATE becomes SV_OK. */
sv_status late(sv_status status);
/* Sets a header, maybe late. */
sv_status put_header(sv_exchange *x, const char *name, sv_str value);

/* ------------------------------------------------------------------------------------------------ commands.c */
/* One line of a script. The texts are those of the init parameter. */
struct step {
    sv_status (*run)(script *);
    sv_str rest, first, second; /* all behind the command; its first word; what is behind that. May be absent */
    bool guarded;               /* `try:` an error of use is noted, and the script goes on */
};

/* Returns what runs a command; one that fails if there is no such command. */
sv_status (*find_command(sv_str name))(script *);

/* ------------------------------------------------------------------------------------------------ filter.c */
sv_status trace_request(void *filter, sv_exchange *x, void **state);

#endif
