/* servlet.h - the servlet library ABI, major version 1.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * This file is the manual. It is C99 and needs only <stddef.h> and <stdint.h>; it compiles as C11, C++11 and later.
 *
 * A servlet library is a shared library (.so) in WEB-INF/lib of a webapp. It exports ONE function, servlet_module_v1,
 * and imports nothing from the server: all that it may call arrives as a table, sv_host. So the same file runs inside the
 * server, in a worker process, or in a test with a table of its own.
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of this file> -o hello.so hello.c
 *
 * 1. WORDS
 *   context    a webapp mounted at a path of a host. Each load of it is a generation; most often the next one starts beside it.
 *   module     what a library makes of itself in one generation: one call of init, one call of destroy.
 *   servlet    answers the exchanges that are mapped to it. filter, listener function: as in the Servlet specification.
 *   exchange   one request and its response. A handle stands for one dispatch of it to one servlet or filter.
 *
 * 2. WHO CALLS, AND WHERE (the tag behind each function)
 *   [control]  called by the server on a control thread, not always the same one, never two of one module at once; may block.
 *   [worker]   called by the server on any of its threads, concurrently with itself; or, for a detached exchange (filters,
 *              events), on the thread of the library that has called the function which leads to it.
 *   [exchange] called by the library, only by the thread that owns the exchange: the one on which the server called
 *              service, poll, last_modified, on_event, or a filter's function with this handle, until that function
 *              returns. Another thread gets SV_E_THREAD and changes nothing. After detach no thread owns it: any one may
 *              call, and a second one waits until the first has returned.
 *   [any]      called by the library on any thread, from the beginning of init to the return of destroy.
 *   parameter, parameters, part_count, part, login, read, read_chunk, read_all, write, write_owned and flush may have to wait.
 *   They do so in service, last_modified, on_event, a filter, and on a detached exchange. In poll they answer SV_WOULD_BLOCK
 *   instead: nothing of the arguments was taken (the response may be committed by then), and they are called again with the
 *   same ones when the task is polled again, which happens by itself: no waker has to be taken for it. No other function
 *   answers SV_WOULD_BLOCK. dispatch, which waits for another servlet, is SV_E_STATE in poll.
 *
 * 3. TEXT AND BYTES are a pointer and a length in bytes, never NUL-terminated (but the ids of extensions). Text is UTF-8
 *   unless it says "bytes". An absent value is ptr == NULL; an empty one is ptr != NULL and len == 0. As an argument
 *   (NULL, 0), also in a struct, is the empty text or no bytes, unless its comment says what absent means. A length over
 *   PTRDIFF_MAX, and NULL with another length, is SV_E_ARG. Values of headers, cookies and parts are bytes as they came.
 *
 * 4. WHO OWNS MEMORY
 *   - What the server returns for an exchange (views, header values, parameters, alloc) lives until the function to which
 *     the server handed this handle has returned; for a task until drop has returned; for a filter until on_end has
 *     returned; for a detached exchange until complete or async_dispatch has returned SV_OK; for an event until on_event
 *     has returned. A body chunk lives until the next read. Any thread may read such memory while it lives. In all it is at
 *     most 64 MiB for one handle (SV_E_NOMEM).
 *   - The table lives until the module's destroy has returned.
 *   - What the library passes in is copied before the function returns, but SV_BODY_STATIC and SV_BODY_OWNED.
 *   - Neither side ever frees what the other one allocated.
 *   - module, servlet, filter, and task pointers belong to the library, from their create to their destroy or drop.
 *
 * 5. ERRORS. A function returns an sv_status: 0 done, > 0 not an error, < 0 an error; treat an unknown negative one as an
 *   error. After an error nothing has changed unless the function says so, and error_text tells it in words, for functions on
 *   an exchange or a session. With any other status than SV_OK, places for results are set to absent, NULL or 0. Wrong use
 *   (NULL, a handle that has ended, the wrong thread or state) gets a status and one line in the log; it never harms the
 *   server. Handles are checked values, not addresses: do not look inside, compare, or keep them, nor give them another type:
 *   their bits may look like addresses.
 *   Nothing may unwind (C++ exception, Rust panic, longjmp) through a function of this header, in either direction.
 *
 * 6. HOW IT GROWS. Inside major 1 nothing that was released is changed, moved, or removed, neither shape nor documented
 *   behaviour. A struct that has a member struct_size grows at its end, in steps of 8 bytes and without padding there; its
 *   writer sets struct_size to its own sizeof, and the reader takes what is missing as zero. Of what is there beyond its own
 *   sizeof, the server ignores all in descriptions; in an argument (sv_response, sv_cookie) it is zero, or SV_E_UNSUPPORTED.
 *   Structs without struct_size never change. Unknown bits in `flags` are ignored; with an unknown one in `flags_required` the
 *   server refuses the library. Reserved members are 0: else the server refuses the library, or the call with SV_E_ARG.
 *   Values that a library does not know may come in dispatch, match_kind, http_version, kinds and statuses. A method that got
 *   its bit in a later minor than the library's abi_minor stays SV_METHOD_OTHER for it.
 *   A library built with 1.x runs on each server 1.y, y >= x, and on older ones down to its need_minor. If it uses what came
 *   after that, it asks SV_HAS for functions, and host->abi_minor for members, values and bits. Functions of sv_host up to its
 *   abi_minor are never NULL. A new major is a new symbol (servlet_module_v2); a library may export both.
 *   A function whose behaviour a server does not have yet answers SV_E_UNSUPPORTED (a pointer: NULL), and a library that
 *   declares what a server does not run yet, such as a filter, is refused.
 *
 * 7. STATIC DATA. Each generation of each context loads a copy of the library of its own, so its static variables belong to
 *   that generation alone. That does not hold for libraries that it depends on, nor for symbols that the linker marks as
 *   unique in the process (GNU_UNIQUE: C++ inline variables without -fvisibility=hidden).
 *   Locks that belong to the process (fcntl, and so SQLite's own) do not keep two generations apart, which live side by side
 *   during a reload: take one of flock's kind around them.
 *
 * Sources of the rules: Jakarta Servlet 6.1 (chapter numbers below), RFC 9110, RFC 9112, RFC 6265.
 * This is 1.0, frozen: from here on it only grows, as section 6 says.
 */
#ifndef SERVLET_H
#define SERVLET_H 1

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SV_ABI_MAJOR 1
#define SV_ABI_MINOR 0
#define SV_MAGIC 0x314C5653u /* "SVL1" in memory on a little-endian machine */

#if defined(_WIN32)
#define SV_EXPORT __declspec(dllexport)
#else
#define SV_EXPORT __attribute__((visibility("default")))
#endif

#define SV_LIT(s) (s), (sizeof(s) - 1) /* a literal as the two arguments pointer, length */
#define SV_STR(s) { (s), sizeof(s) - 1 } /* a literal as the initialiser of an sv_str; as a value, in C: (sv_str)SV_STR(s) */

/* Is member m there in table or struct p (a pointer), which may come from an older peer? */
#define SV_HAS_MEMBER(p, type, m) ((p)->struct_size >= offsetof(type, m) + sizeof((p)->m))
/* For pointers and functions: and is it not NULL? */
#define SV_HAS(p, type, m) (SV_HAS_MEMBER(p, type, m) && (p)->m != NULL)

/* ------------------------------------------------------------------------------------------------ status */
typedef int32_t sv_status;
#define SV_OK 0
#define SV_PENDING 1             /* service: not finished; a task will be polled, or the exchange was detached */
#define SV_WOULD_BLOCK 2         /* only in poll: nothing was taken; the task is polled again when it is worth trying */
#define SV_END 3                 /* the end of a body */
#define SV_NONE 4                /* there is no such header, parameter, attribute, session, ... */
#define SV_NEXT 5                /* filter: go on. servlet: not mine, answer as the default servlet would */
#define SV_E_ARG (-1)            /* NULL, a length, a value or a character that is not allowed */
#define SV_E_STATE (-2)          /* not in this state, e.g. a header after the response was committed */
#define SV_E_THREAD (-3)         /* the calling thread does not own the exchange */
#define SV_E_STALE (-4)          /* the handle has ended, or never was one */
#define SV_E_NOMEM (-5)
#define SV_E_LIMIT (-6)          /* a configured limit was reached */
#define SV_E_CLOSED (-7)         /* the client has gone, or sent a broken body */
#define SV_E_TIMEOUT (-8)
#define SV_E_CANCELLED (-9)
#define SV_E_UNSUPPORTED (-10)
#define SV_E_IO (-11)
#define SV_E_PANIC (-12)         /* the library caught a panic or an exception of its own */
#define SV_E_FAILED (-13)        /* free for the library: failed, see fail */
#define SV_E_REQUEST (-14)       /* the client's request is malformed */
#define SV_E_BUSY (-15)          /* the server has no thread left for it; the client may try again */
#define SV_E_INTERNAL (-100)     /* a fault of the server */

typedef struct sv_str {
    const char *ptr;
    size_t len;
} sv_str;

typedef struct sv_pair { /* a header field, a parameter, a cookie, an attribute */
    sv_str name, value;
} sv_pair;

/* ------------------------------------------------------------------------------------------------ handles */
typedef struct sv_exchange sv_exchange; /* one dispatch of an exchange */
typedef struct sv_context sv_context;   /* one generation of a context; valid from init to the return of destroy */
typedef struct sv_session sv_session;   /* valid as long as the exchange handle it was asked of */
typedef struct sv_waker sv_waker;       /* counted: each one is given back exactly once */

/* ------------------------------------------------------------------------------------------------ the request */
/* Bits, so that a servlet can say which methods it has; sv_request.method holds one of them. */
#define SV_GET 0x001u
#define SV_HEAD 0x002u
#define SV_POST 0x004u
#define SV_PUT 0x008u
#define SV_DELETE 0x010u
#define SV_PATCH 0x020u
#define SV_OPTIONS 0x040u
#define SV_TRACE 0x080u
#define SV_CONNECT 0x100u
#define SV_METHOD_OTHER 0x80000000u /* see method_name */

/* Why a servlet or filter is called (Servlet 6.2.5, 9). Bits, for the dispatcher types of a filter. */
#define SV_DISPATCH_REQUEST 0x01u
#define SV_DISPATCH_FORWARD 0x02u
#define SV_DISPATCH_INCLUDE 0x04u
#define SV_DISPATCH_ERROR 0x08u
#define SV_DISPATCH_ASYNC 0x10u

/* How the servlet was found (Servlet 12.1). */
#define SV_MATCH_CONTEXT_ROOT 1
#define SV_MATCH_DEFAULT 2
#define SV_MATCH_EXACT 3
#define SV_MATCH_EXTENSION 4
#define SV_MATCH_PATH 5
#define SV_MATCH_TEMPLATE 6

/* The request line, paths and headers as this dispatch sees them. Plain memory: any thread may read it. */
typedef struct sv_request {
    uint32_t struct_size;
    uint32_t method;       /* SV_GET, ... or SV_METHOD_OTHER */
    sv_str method_name;    /* as sent, case kept */
    uint32_t http_version; /* 10, 11, 20 or 30 */
    uint32_t dispatch;     /* SV_DISPATCH_* */
    sv_str scheme;         /* "http" or "https" */
    sv_str server_name;    /* from Host or the target, without port; IPv6 in brackets; empty: neither says it */
    uint32_t server_port;  /* from Host or the target; else 80 or 443 by scheme */
    int32_t secure;        /* 1: the client's connection is protected */
    sv_str target;         /* as sent (bytes) */
    sv_str request_uri;    /* the path of the target, undecoded, with its parameters */
    sv_str query;          /* undecoded, without '?'; absent: there was no '?' */
    sv_str context_path;   /* undecoded; "" for the root context */
    sv_str servlet_path;   /* decoded */
    sv_str path_info;      /* decoded; absent: there is none */
    int32_t match_kind;    /* SV_MATCH_*. In an include and in a dispatch by name this, the next three and all paths are those
                              of the dispatch before: a servlet knows its own name from sv_config */
    uint32_t reserved;
    sv_str match_pattern;  /* the URL pattern that matched */
    sv_str match_value;    /* what its wildcard stood for; absent: nothing */
    sv_str servlet_name;
    const sv_pair *headers; /* names in lower case, in the order they came; values are bytes */
    size_t header_count;
    int64_t content_length; /* bytes; -1: not told in advance */
    sv_str content_type;    /* bytes; absent: none */
    sv_str charset;         /* bytes; of the body: told by the client, or the default in effect; absent: neither */
    sv_str remote_addr;     /* the client's address, maybe by the word of a proxy, no port: "127.0.0.1", "::1" */
    sv_str local_addr;      /* absent, as remote_addr: the connection has none (a Unix socket); then its port is 0 */
    uint32_t remote_port, local_port; /* of the connection */
    uint64_t id;            /* of the exchange, as in the log; unique until the server stops */
    uint64_t connection_id;
} sv_request;

/* Facts of a TLS connection; absent: not known. Certificates are DER, the client's own first, and here only if the server has
 * verified the chain. */
typedef struct sv_tls {
    uint32_t struct_size;
    uint32_t certificate_count;
    const sv_str *certificates;
    sv_str protocol, cipher, server_name; /* "TLSv1.3", the IANA name of the suite, the SNI name */
} sv_tls;

/* One part of a multipart/form-data body (Servlet 3.2). */
typedef struct sv_part {
    uint32_t struct_size;
    uint32_t header_count;
    const sv_pair *headers;
    sv_str name;
    sv_str file_name;    /* as sent, never a path to use; absent: not a file */
    sv_str content_type;
    sv_str path;         /* where it was spilled to, until the end of the exchange; may be renamed away. Absent: it is in data */
    sv_str data;
    uint64_t size;       /* bytes */
} sv_part;

/* ------------------------------------------------------------------------------------------------ the response */
#define SV_HEADER_SET 0    /* replaces all of that name */
#define SV_HEADER_ADD 1
#define SV_HEADER_REMOVE 2 /* the value is not looked at */

#define SV_BODY_COPY 0   /* copied before the function returns */
#define SV_BODY_STATIC 1 /* valid and unchanged until the module's destroy is called; may be sent in place */
#define SV_BODY_OWNED 2  /* taken over when the function returns SV_OK: release(release_arg) is called once, when it was
                            sent or dropped, on any thread, maybe before the function returns, and before destroy; it must
                            not block and calls no [exchange] function. On an error the caller still owns it. */

/* A whole answer in one call. A content-length among the headers must be that of the body (HEAD: of the body that GET would
 * have), or it is SV_E_ARG; without one the server sets it. */
typedef struct sv_response {
    uint32_t struct_size;
    uint32_t status;           /* 200 to 599 */
    const sv_pair *headers;    /* each as with SV_HEADER_ADD, but content-type and content-length: SV_HEADER_SET */
    size_t header_count;       /* 1,000 at most */
    const char *body;
    size_t body_len;
    uint32_t body_kind;        /* SV_BODY_* */
    uint32_t reserved;
    void (*release)(void *release_arg); /* only for SV_BODY_OWNED */
    void *release_arg;
} sv_response;

/* A cookie of the response (RFC 6265 4.1; Servlet 3.5). */
#define SV_COOKIE_SECURE 0x1u
#define SV_COOKIE_HTTP_ONLY 0x2u
#define SV_COOKIE_MAX_AGE 0x4u /* max_age counts */
typedef struct sv_cookie {
    uint32_t struct_size;
    uint32_t flags;             /* SV_COOKIE_* */
    sv_str name, value;         /* a token; RFC 6265 cookie-octets, and UTF-8 beyond ASCII */
    sv_str path, domain;        /* absent or empty: not sent */
    int64_t max_age;            /* seconds, with SV_COOKIE_MAX_AGE; <= 0: deletes it now; over 400 days: is sent as 400 days.
                                   Without the bit it is a cookie of the browser's session */
    const sv_pair *attributes;  /* others, such as SameSite, for which web.toml has a default; behind the known ones */
    size_t attribute_count;
} sv_cookie;

/* ------------------------------------------------------------------------------------------------ sessions */
/* Facts of an exchange's session (Servlet 7). Plain memory. */
typedef struct sv_session_info {
    uint32_t struct_size;
    uint32_t is_new;              /* 1: the client does not know of it yet */
    sv_str id;                    /* absent: there is no session */
    sv_str requested_id;          /* what the client sent; absent: nothing */
    uint32_t requested_by_cookie, requested_by_url, requested_valid;
    uint32_t reserved;
    int64_t created, accessed;    /* milliseconds since 1970 */
    int64_t max_inactive;         /* seconds; <= 0: it never times out */
} sv_session_info;

/* ------------------------------------------------------------------------------------------------ events */
/* Listener functions (Servlet 11). Bits. A server may know more; a library is called only for those it asked for. */
#define SV_EVENT_CONTEXT_INITIALIZED 0x0001u
#define SV_EVENT_CONTEXT_DESTROYED 0x0002u
#define SV_EVENT_REQUEST_INITIALIZED 0x0004u
#define SV_EVENT_REQUEST_DESTROYED 0x0008u
#define SV_EVENT_SESSION_CREATED 0x0010u
#define SV_EVENT_SESSION_DESTROYED 0x0020u
#define SV_EVENT_SESSION_ID_CHANGED 0x0040u   /* old_value: the id before */
#define SV_EVENT_CONTEXT_ATTRIBUTE 0x0100u    /* value absent: removed; old_value absent: added; else replaced. Both: bytes */
#define SV_EVENT_REQUEST_ATTRIBUTE 0x0200u
#define SV_EVENT_SESSION_ATTRIBUTE 0x0400u
typedef struct sv_event {
    uint32_t struct_size;
    uint32_t kind;
    sv_context *context;
    sv_exchange *exchange; /* NULL: none. For reading, attributes and the session; what makes the response is SV_E_STATE */
    sv_session *session;   /* NULL: none; until on_event returns, on its thread; when destroyed, attributes may still be read */
    sv_str session_id, name, value, old_value;
} sv_event;

/* ------------------------------------------------------------------------------------------------ the host's table */
#define SV_LOG_ERROR 1
#define SV_LOG_WARN 2
#define SV_LOG_INFO 3
#define SV_LOG_DEBUG 4
#define SV_LOG_TRACE 5

#define SV_PATH_ROOT 1 /* the webapp's folder; read it, do not write into it */
#define SV_PATH_WORK 2 /* a folder of the context's own, kept over reloads and restarts */
#define SV_PATH_TEMP 3 /* a folder of the generation's own, removed after its destroy */

#define SV_FORWARD 1
#define SV_INCLUDE 2
#define SV_BY_NAME 0x10 /* added to one of these: `target` is a servlet's name, not a path */

typedef struct sv_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    sv_str server; /* "serval/0.1.0" */

    /* A named extension: a struct whose layout never changes and that lives as long as the table, or NULL. `id` is
     * NUL-terminated: "serval.websocket/1". */
    const void *(*extension)(const char *id);                                                     /* [any] */

    /* --- log. Text over 64 KiB is cut. */
    int32_t (*log_enabled)(sv_context *, int32_t level);                                          /* [any] 1 or 0 */
    sv_status (*log_message)(sv_context *, sv_exchange *or_null, int32_t level, const char *text, size_t len);
                                                        /* [any] an exchange of another thread only loses its request id */
    /* A panic or an exception was caught; to be called on its thread before the stack is gone, so that the server can
     * take a backtrace. Libraries do not symbolise on their own (it costs 40 MB of theirs each time). */
    sv_status (*report_panic)(sv_context *or_null, const char *text, size_t len, const char *file, size_t file_len,
                              uint32_t line);                                                     /* [any] */

    /* --- the request */
    const sv_request *(*request)(sv_exchange *);                                 /* [exchange] NULL on wrong use */
    const sv_tls *(*tls)(sv_exchange *);                                         /* [exchange] NULL: not TLS */
    /* The first header of that name; any case. */
    sv_status (*header)(sv_exchange *, const char *name, size_t len, sv_str *value);              /* [exchange] */
    /* The nth (from 0) value of a parameter: query first, then a form body (Servlet 3.1), which is read whole by the first
     * call; then the body is at its end. SV_E_LIMIT: over form_bytes_max (413) or parameter_count_max (400); SV_E_REQUEST:
     * not decodable (400). The error stays: each later call gives it again. */
    sv_status (*parameter)(sv_exchange *, const char *name, size_t len, uint32_t nth, sv_str *value); /* [exchange] */
    sv_status (*parameters)(sv_exchange *, const sv_pair **out, size_t *count); /* [exchange] all, in order */
    /* The value of {name} in the URL pattern that matched, decoded. SV_NONE: the pattern has no such name. */
    sv_status (*path_parameter)(sv_exchange *, const char *name, size_t len, sv_str *value);      /* [exchange] */
    sv_status (*cookie)(sv_exchange *, const char *name, size_t len, sv_str *value);              /* [exchange] first */
    sv_status (*cookies)(sv_exchange *, const sv_pair **out, size_t *count);                      /* [exchange] */
    /* SV_E_STATE: the servlet has no SV_MULTIPART, nor web.toml's (after parameters were read: SV_OK, and no parts); SV_NONE: a
     * body of another type. */
    sv_status (*part_count)(sv_exchange *, size_t *count);                       /* [exchange] reads the body */
    sv_status (*part)(sv_exchange *, size_t index, const sv_part **out);                          /* [exchange] */
    /* Request attributes (Servlet 3.3): bytes under a name; they live as long as the exchange, 1 MiB in all (SV_E_LIMIT).
     * Names that begin with "servlet." are the server's, and setting one is SV_E_ARG. They are text, and there when they
     * apply (Servlet 9.3.1, 9.4.2, 9.7.2, 10.9.1):
     *   servlet.{forward,include,async}.{request_uri, context_path, servlet_path, path_info, query_string, mapping.value,
     *     mapping.pattern, mapping.match, mapping.servlet}
     *   servlet.error.{status_code (decimal), message, kind, request_uri, query_string, method, servlet_name} */
    sv_status (*attribute)(sv_exchange *, const char *name, size_t len, sv_str *value);           /* [exchange] */
    sv_status (*attributes)(sv_exchange *, const sv_pair **out, size_t *count);                   /* [exchange] as at the call */
    sv_status (*set_attribute)(sv_exchange *, const char *name, size_t len, const char *value, size_t value_len);
                                                                     /* [exchange] value NULL removes */
    /* Who logged in: principal and method ("BASIC", ...). SV_NONE: nobody. */
    sv_status (*principal)(sv_exchange *, sv_str *name, sv_str *method);                          /* [exchange] */
    sv_status (*in_role)(sv_exchange *, const char *role, size_t len);           /* [exchange] SV_OK or SV_NONE */
    sv_status (*login)(sv_exchange *, const char *name, size_t len, const char *password, size_t password_len);
                                     /* [exchange] SV_NONE: wrong name or password; SV_E_STATE: somebody is logged in */
    sv_status (*logout)(sv_exchange *);                                                           /* [exchange] */

    /* --- the request's body. These wait.
     * SV_E_LIMIT: longer than request_body_bytes_max. SV_E_CLOSED: cut or broken. SV_E_TIMEOUT: too slow. SV_E_BUSY: what a
     * call in service would wait on has no thread left. Each stays: later reads give it again. Returned from service as they
     * are, without fail, they become 413, 400, 408, 503; so does what parameter, part_count and write have answered. */
    sv_status (*read)(sv_exchange *, char *buffer, size_t capacity, size_t *len);   /* [exchange] capacity > 0; or SV_END */
    sv_status (*read_chunk)(sv_exchange *, sv_str *chunk);                             /* [exchange] what has come; or SV_END */
    sv_status (*read_all)(sv_exchange *, size_t bytes_max, sv_str *body);  /* [exchange] the rest, again: the same; SV_E_LIMIT:
                                                                              it is longer */
    sv_status (*request_trailers)(sv_exchange *, const sv_pair **out, size_t *count);  /* [exchange] after SV_END */

    /* --- the response (Servlet 5). Held in a buffer (8 KiB unless configured) until it is committed: by flush, a full
     * buffer, a reached content length, or the end. Then status and headers are fixed: SV_E_STATE, nothing changes.
     * In a dispatch of kind SV_DISPATCH_INCLUDE only writing has an effect, and respond writes its body; the rest answers
     * SV_OK and is ignored. An answer to HEAD is made as for GET; its body is counted and not sent.
     * respond, send_error and redirect finish the response: later output, and finishing again, is SV_E_STATE. */
    /* Drops what is buffered, keeps the headers that were set before, and never waits. */
    sv_status (*respond)(sv_exchange *, const sv_response *);        /* [exchange] */
    sv_status (*set_status)(sv_exchange *, uint32_t status);         /* [exchange] 200 to 599 */
    /* Names are tokens; values have no control characters but tab (RFC 9110 5.5): SV_E_ARG. Connection, Transfer-Encoding,
     * Upgrade and Keep-Alive are the server's: SV_E_ARG. Content-Type and Content-Length are as set_content_type and
     * set_content_length, whatever `how` says. SV_E_LIMIT: over 1,000 headers. */
    sv_status (*set_header)(sv_exchange *, int32_t how, const char *name, size_t len, const char *value,
                            size_t value_len);                                           /* [exchange] how: SV_HEADER_* */
    sv_status (*response_header)(sv_exchange *, const char *name, size_t len, uint32_t nth, sv_str *value); /* [exchange] */
    sv_status (*response_status)(sv_exchange *, uint32_t *status);                                /* [exchange] */
    /* The charset is sent as a parameter of the content type, if it was set here or in the type; the later call wins, and a
     * type without one keeps it. An empty type is SV_E_ARG: SV_HEADER_REMOVE removes it. */
    sv_status (*set_content_type)(sv_exchange *, const char *type, size_t len);                   /* [exchange] */
    sv_status (*set_charset)(sv_exchange *, const char *charset, size_t len); /* [exchange] a token; (NULL, 0) removes it */
    /* Output past it is dropped; with less output than that the connection is cut. */
    sv_status (*set_content_length)(sv_exchange *, uint64_t bytes);                               /* [exchange] */
    sv_status (*set_buffer_size)(sv_exchange *, size_t bytes);       /* [exchange] before any output; 16 MiB at most */
    sv_status (*set_cookie)(sv_exchange *, const sv_cookie *);                                    /* [exchange] */
    /* Sent behind the body to clients that ask for trailers (TE: trailers; RFC 9110 6.5); replaces one of that name. SV_E_STATE:
     * the response is committed, and its header Trailer does not name it; that header is set by itself for those set before. */
    sv_status (*set_trailer)(sv_exchange *, const char *name, size_t len, const char *value, size_t value_len);
                                                                                                  /* [exchange] */
    sv_status (*informational)(sv_exchange *, uint32_t status, const sv_pair *headers, size_t count);
                                /* [exchange] 103 (Early Hints), sent at once, before the response, without Content-Length.
                                   SV_E_STATE: the response is committed; SV_E_UNSUPPORTED: an HTTP/1.0 client; SV_E_LIMIT:
                                   16 KiB of them wait to be sent */
    /* Writing waits while the client is slow, and all is taken. In poll, *taken may be less than len. `taken` may be NULL
     * where it waits. SV_E_CLOSED: the client has gone; SV_E_TIMEOUT, SV_E_BUSY: as for reading; part may have been sent. */
    sv_status (*write)(sv_exchange *, const char *bytes, size_t len, size_t *taken);              /* [exchange] */
    sv_status (*write_owned)(sv_exchange *, const char *bytes, size_t len, void (*release)(void *), void *release_arg);
                                             /* [exchange] all or nothing, also in poll; ownership as SV_BODY_OWNED */
    sv_status (*flush)(sv_exchange *);                               /* [exchange] commits; waits as write */
    sv_status (*reset)(sv_exchange *);                               /* [exchange] status, headers and buffer */
    sv_status (*reset_buffer)(sv_exchange *);                        /* [exchange] the buffer only */
    /* sendError (Servlet 5.3): the error page for that status, 400 to 599, is made when service has returned; until then
     * headers may still be set. The text is for the log, and clients may see it (in development, or by the error page). */
    sv_status (*send_error)(sv_exchange *, uint32_t status, const char *text, size_t len);        /* [exchange] */
    /* sendRedirect: the status, Location as it stands or made absolute (to HTTP/1.0, or as configured), and an empty body.
     * status: 300 to 399, but 304; 0: 302; else SV_E_ARG. */
    sv_status (*redirect)(sv_exchange *, uint32_t status, const char *location, size_t len);      /* [exchange] */
    int32_t (*committed)(sv_exchange *);                             /* [exchange] 1, 0, or an error */
    sv_status (*encode_url)(sv_exchange *, const char *url, size_t len, sv_str *out);             /* [exchange] */

    /* --- the exchange */
    void *(*alloc)(sv_exchange *, size_t size, size_t align);        /* [exchange] not zeroed; align: a power of two; or NULL */
    sv_status (*error_text)(sv_exchange *, sv_str *text);            /* [exchange] of the last error on this handle */
    /* Both say why service is about to return an error, such as SV_E_FAILED, which it then does. fail: a kind, such as
     * "io/not-found", for error pages by kind (longest prefix by '/'), and a text as send_error's. unavailable (Servlet
     * 2.3.3.2): seconds > 0: answers 503 with Retry-After, and so does the server until then, without a call; 0: answers 404,
     * for the rest of this generation. */
    sv_status (*fail)(sv_exchange *, const char *kind, size_t kind_len, const char *text, size_t len); /* [exchange] */
    sv_status (*unavailable)(sv_exchange *, uint32_t seconds, const char *text, size_t len);      /* [exchange] */
    /* Servlet 9. Returns when the target has returned, with its status, and what it said with fail stays said. The target is a
     * path of this context, absolute or relative to the current one, maybe with a query. SV_NONE: no such target, or outside
     * the context. SV_E_LIMIT: too deep. SV_FORWARD: SV_E_STATE if committed; output after it is SV_E_STATE. SV_INCLUDE of a
     * file that is missing: SV_E_FAILED of kind "io/not-found". */
    sv_status (*dispatch)(sv_exchange *, int32_t how, const char *target, size_t len); /* [exchange] SV_FORWARD, SV_INCLUDE */
    /* 1, 0, or an error. */
    int32_t (*cancelled)(sv_exchange *);     /* [exchange] 1: the client has gone, which writing
                                                shows for certain, or the deadline passed; stop when you can */
    int32_t (*retiring)(sv_exchange *);      /* [exchange] 1: this generation is on its way out: a newer one takes over, the
                                                context goes, or the server stops. End streams; a task is polled then. */

    /* --- async (Servlet 2.3.3.3). service returns SV_PENDING with a task, which is polled when its waker fires; or it
     * detaches, returns SV_PENDING without a task, and any thread calls exchange functions and at last complete or
     * async_dispatch, once; that may be before service has returned, and takes effect after. A call of another thread is held
     * back a moment until service has returned; if service takes longer, the call begins, and service waits for it. An error of
     * service after detach counts as complete(error). A time-out, a client that has gone, and the end of the generation do not
     * end a detached handle: functions that read the body or make the response answer SV_E_TIMEOUT, SV_E_CLOSED or
     * SV_E_CANCELLED, and complete is still owed. A task is dropped then, at once (SV_KEEP: not when the client has gone). A
     * client that has closed its side of the connection counts as gone here. */
    /* SV_E_STATE: not in service, or inside of a dispatch. told may be NULL. It is called on any thread, never after complete
     * or async_dispatch has returned. why SV_OK: the exchange retires (once at most); SV_E_CLOSED, SV_E_TIMEOUT, SV_E_CANCELLED:
     * it is over (once at most, and the last call). It must not block, nor wait for who may be inside of complete, which waits
     * for it; and it calls no [exchange] function. */
    sv_status (*detach)(sv_exchange *, void (*told)(void *told_arg, sv_status why), void *told_arg);  /* [exchange] */
    sv_status (*complete)(sv_exchange *, sv_status result);          /* [exchange] of a detached one; ends the handle */
    sv_status (*async_dispatch)(sv_exchange *, const char *path, size_t len); /* [exchange] in poll or detached, else SV_E_STATE:
                                        ends the task or detachment, then dispatches to path (NULL: the original one) with
                                        SV_DISPATCH_ASYNC. SV_E_ARG: no path of this context */
    /* Of the async phase, from now on; 0: none. After it the answer is 500 by the error page, or cut. */
    sv_status (*set_timeout)(sv_exchange *, uint64_t milliseconds);                               /* [exchange] */
    /* A waker is for the task of this exchange, so NULL is returned where there is no poll. A wake during service or poll is
     * not lost, many count as one, and one after the end does nothing. */
    sv_waker *(*waker)(sv_exchange *);                               /* [exchange] a new one */
    sv_waker *(*waker_clone)(sv_waker *);                            /* [any] a new one */
    void (*waker_wake)(sv_waker *, int32_t consume);                 /* [any] consume 1: gives it back as well */
    void (*waker_drop)(sv_waker *);                                  /* [any] gives it back */

    /* --- sessions. Attributes are bytes owned by the server: they survive reloads, and restarts where the server keeps them on
     * disk. There is one session handle for each exchange handle: it stands for the current session. After invalidate its
     * functions answer SV_E_STATE, until session has made a new one. */
    sv_status (*session)(sv_exchange *, int32_t create, sv_session **out);  /* [exchange] SV_NONE: there is none. To create one:
                                        SV_E_STATE: committed; SV_E_LIMIT: sessions_max; SV_E_IO: their store */
    sv_status (*session_info)(sv_exchange *, const sv_session_info **out); /* [exchange] without a session: SV_OK, id absent */
    sv_status (*session_attribute)(sv_session *, const char *name, size_t len, sv_str *value);    /* [exchange] */
    sv_status (*session_attributes)(sv_session *, const sv_pair **out, size_t *count);            /* [exchange] */
    sv_status (*session_set_attribute)(sv_session *, const char *name, size_t len, const char *value, size_t value_len);
                                             /* [exchange] value NULL removes; SV_E_LIMIT: over the configured size */
    sv_status (*session_change_id)(sv_session *, sv_str *id);                                     /* [exchange] */
    sv_status (*session_set_max_inactive)(sv_session *, int64_t seconds);                         /* [exchange] */
    sv_status (*session_invalidate)(sv_session *);                                                /* [exchange] */

    /* --- the context. Strings returned live until destroy returns, but attributes: they are copied into the buffer, and
     * *len is their whole length, also when it is more than capacity. */
    sv_context *(*context)(sv_exchange *);                                                        /* [exchange] */
    sv_status (*context_path)(sv_context *, sv_str *out);                                         /* [any] */
    sv_status (*context_parameter)(sv_context *, const char *name, size_t len, sv_str *value);    /* [any] */
    sv_status (*context_parameters)(sv_context *, const sv_pair **out, size_t *count);            /* [any] */
    sv_status (*context_folder)(sv_context *, int32_t which, sv_str *path);                       /* [any] SV_PATH_* */
    sv_status (*context_mime_type)(sv_context *, const char *file_name, size_t len, sv_str *type); /* [any] */
    sv_status (*context_resource)(sv_context *, const char *name, size_t len, sv_str *value);     /* [any] a value of [env],
                                        or a linked resource; maybe a secret. SV_NONE */
    sv_status (*context_attribute)(sv_context *, const char *name, size_t name_len, char *buffer, size_t capacity,
                                   size_t *len);                                                  /* [any] */
    sv_status (*context_set_attribute)(sv_context *, const char *name, size_t len, const char *value,
                                       size_t value_len);                                         /* [any] NULL removes */
    uint64_t (*context_generation)(sv_context *);                                                 /* [any] 0 on wrong use */
    /* Runs job(arg) once on a thread of the context's pool; destroy is called when it has returned. SV_E_LIMIT: the queue is
     * full. SV_E_STATE: the generation is about to be destroyed. */
    sv_status (*context_post)(sv_context *, void (*job)(void *), void *arg);                      /* [any] */
    /* Fires the waker once, after that time, and gives it back; also on an error. */
    sv_status (*context_timer)(sv_context *, uint64_t milliseconds, sv_waker *);                  /* [any] */
} sv_host;

/* ------------------------------------------------------------------------------------------------ what a library offers */
/* Where a servlet's or filter's functions run is the server's decision; a library only says what it promises. */
#define SV_NONBLOCKING 0x1u /* they return soon and never wait but in functions of sv_host */
#define SV_BLOCKING 0x2u    /* it may wait long: it always gets a thread of the context's pool. Neither bit: not known */
#define SV_KEEP 0x4u        /* goes on when the client has gone */
#define SV_MULTIPART 0x8u   /* part() and parameters() read multipart/form-data bodies; web.toml may say otherwise */

/* How one instance of a servlet or filter is configured. Lives until its create fails or its destroy returns. */
typedef struct sv_config {
    uint32_t struct_size;
    uint32_t reserved;
    sv_str name;           /* the instance's name: of the declaration, or of web.toml */
    const sv_pair *init;   /* init parameters (Servlet 2.4), of web.toml before those of the declaration */
    size_t init_count;
} sv_config;

/* A servlet. Declared once; web.toml may make more instances of it, under other names. */
typedef struct sv_servlet {
    uint32_t struct_size;
    uint32_t flags, flags_required;
    uint32_t methods;              /* the SV_GET | ... that service handles; the server answers others with 405 and Allow
                                      (to HTTP/1.0: 400; SV_METHOD_OTHER: 501), OPTIONS with Allow, and calls service for
                                      HEAD where it has GET (Servlet 2.3.1); TRACE is the listener's. 0: service gets every
                                      method itself */
    sv_str name;
    const sv_str *patterns;        /* URL patterns (Servlet 12.2): exact, path (ends in a slash and a star),
                                      extension (*.x), default (one slash), context root (""), or template: segments of
                                      the form {name} stand for one segment each (/items/{id}); tried after exact ones */
    size_t pattern_count;
    const sv_pair *init;           /* init parameters, as defaults */
    size_t init_count;
    int32_t load_order;            /* >= 0: created at load, in ascending order; < 0: after those */
    uint32_t reserved;
    /* create may be NULL, and then destroy gets NULL. An error refuses the generation; it may leave a text, to be freed by
     * nobody, that lives as long as the library. destroy may be NULL; it comes after the last call, not after a failed create. */
    sv_status (*create)(sv_context *, void *module, const sv_config *, void **servlet, sv_str *error); /* [control] */
    void (*destroy)(void *servlet);                                                               /* [control] */
    /* Answers. SV_OK: done; nothing written is 200 with an empty body. SV_NEXT: as the default servlet. SV_PENDING: above;
     * *task is NULL before, and is looked at only then. Any other status, also a positive one, is an error: 500 by the error
     * page, or the connection is cut if the response was committed. */
    sv_status (*service)(void *servlet, sv_exchange *, void **task);                              /* [worker] */
    /* Goes on with a task; SV_PENDING: not yet. Never two at once for one task. Must not block. NULL: makes no tasks. */
    sv_status (*poll)(void *task, sv_exchange *);                                                 /* [worker] */
    void (*drop)(void *task);    /* [worker] once, at the end or on cancel; NULL: there is nothing to free. No [exchange] function
                                    may be called; memory of the exchange may still be read */
    /* When what the request names was last changed, in ms since 1970; < 0: not known. Then the server answers conditional
     * GETs (Servlet: getLastModified). NULL: never known. */
    int64_t (*last_modified)(void *servlet, sv_exchange *);                                       /* [worker] */
} sv_servlet;

/* A filter (Servlet 6), as hooks: nothing of the library is on the stack while others work. None of them may detach or return
 * SV_PENDING. web.toml may make more instances of it, each with a list of maps, with dispatcher types of their own, in place of
 * these; maps by URL come before maps by servlet name, each in their order, and a filter is called once for a dispatch. */
typedef struct sv_filter {
    uint32_t struct_size;
    uint32_t flags, flags_required;
    uint32_t dispatches;           /* SV_DISPATCH_*; 0: REQUEST */
    sv_str name;
    const sv_str *patterns;        /* URL patterns, but templates; a single star also stands for dispatches by name */
    size_t pattern_count;
    const sv_str *servlets;        /* names of servlets; "*": all */
    size_t servlet_count;
    const sv_pair *init;
    size_t init_count;
    int32_t order;                 /* ascending; web.toml's order goes before it */
    uint32_t reserved;
    sv_status (*create)(sv_context *, void *module, const sv_config *, void **filter, sv_str *error); /* [control] */
    void (*destroy)(void *filter);                                                                /* [control] */
    /* Outermost filter first. SV_NEXT: go on; SV_OK: answered, the rest is not called; an error: as of a servlet.
     * *state is the filter's own for this dispatch. NULL: SV_NEXT. The other hooks may be NULL as well. */
    sv_status (*on_request)(void *filter, sv_exchange *, void **state);                           /* [worker] */
    /* Innermost first, when the head is about to be committed: status and headers may still be changed, nothing written. Not
     * called in an include. SV_OK, or an error: 500. */
    sv_status (*on_response)(void *filter, sv_exchange *, void *state);                           /* [worker] */
    /* Innermost first: each piece of the body; what the filter writes goes on in its place. last 1: the end, maybe with
     * len 0; a flush comes as len 0 and last 0. NULL: the body passes untouched. With it the response has no Content-Length
     * of before. Only getters and write may be called, and write always takes all, up to 64 MiB for one piece (SV_E_LIMIT): it is
     * the writer before that the server stops while the client is slow. Not called where there is no body (HEAD, 204, 304). An
     * error: 500, or cut if committed. */
    sv_status (*on_body)(void *filter, sv_exchange *, void *state, const char *bytes, size_t len, int32_t last);
                                                                                                  /* [worker] */
    /* Once for each on_request that returned SV_NEXT, whatever happened: frees the state. Only getters may be called. result:
     * what the dispatch has returned. */
    void (*on_end)(void *filter, sv_exchange *, void *state, sv_status result);                   /* [worker] */
} sv_filter;

/* Events of an exchange go to its generation, others to the current one. CONTEXT_INITIALIZED comes after init and before each
 * create, CONTEXT_DESTROYED after the last destroy of a servlet or filter and before the module's. */
typedef struct sv_listener {
    uint32_t struct_size;
    uint32_t flags, flags_required;
    uint32_t kinds;                /* SV_EVENT_* */
    /* SV_OK. An error of CONTEXT_INITIALIZED refuses the generation, of REQUEST_INITIALIZED is answered as one of service; of
     * others it is logged. Functions are called in the order of the arrays, for ..._DESTROYED in the reverse order, and all of
     * them, also after an error of one. */
    sv_status (*on_event)(void *module, const sv_event *);   /* [control] for context events, [worker] for the others */
} sv_listener;

#define SV_MODULE_NO_UNLOAD 0x1u /* its language's runtime cannot be unloaded (Go): stays mapped */

typedef struct sv_module {
    uint32_t magic;                  /* SV_MAGIC */
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;   /* of the header it was compiled with */
    uint16_t need_minor;             /* the oldest minor of a server that it can live with */
    uint16_t reserved;
    uint32_t flags, flags_required;  /* SV_MODULE_* */
    sv_str name, version;            /* "hello", "1.2.0" */
    sv_str built_with;               /* "rustc 1.95.0, servlet 0.1.0" */
    /* May be NULL. An error refuses the generation, the one before serves on, and destroy is not called. The text in *error
     * lives as create's. */
    sv_status (*init)(const sv_host *, sv_context *, void **module, sv_str *error);               /* [control] */
    /* May be NULL. Last of all: every thread that the library started has ended when it returns. */
    void (*destroy)(void *module);                                                                /* [control] */
    /* Optional hand-over to the module of the same name in the next generation, 16 MiB at most; more is not handed over. save
     * is called before destroy, most often while this one still serves, maybe more than once, with a buffer as
     * context_attribute's; SV_NONE: nothing. restore comes after the next one's init and before its creates, and its error
     * refuses that generation; the bytes may be of a newer or an older version of the library. */
    sv_status (*save)(void *module, char *buffer, size_t capacity, size_t *len);                  /* [control] */
    sv_status (*restore)(void *module, const char *bytes, size_t len);                            /* [control] */
    const sv_servlet *const *servlets;
    size_t servlet_count;            /* 1,000 at most, as filters and listeners */
    const sv_filter *const *filters;
    size_t filter_count;
    const sv_listener *const *listeners;
    size_t listener_count;
    const void *(*extension)(const char *id);        /* [control] at load, before init: constant data of the library, by name;
                                                        NULL: has it not */
} sv_module;

/* The one export. Returns constant data and does nothing else: `serval inspect` calls it without init. */
typedef const sv_module *(*sv_module_fn)(void);
#ifndef SV_NO_ENTRY_DECLARATION /* for cgo, whose own prototype has no const */
SV_EXPORT const sv_module *servlet_module_v1(void);
#endif

#ifdef __cplusplus
}
#endif
#endif
