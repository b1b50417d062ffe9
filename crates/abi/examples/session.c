/* session.c - what the server keeps for a client from one request to the next (Servlet 7).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o session.so session.c
 *
 *   POST /enter?name=Ada   GET /   POST /leave
 *
 * Attributes are bytes that the server owns. So they survive a reload of this library, and a restart of the server.
 */
#include "servlet.h"

#include <stdio.h>
#include <string.h>

static const sv_host *host;

/* GET /: counts visits, for clients that have entered. */
static sv_status visit(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_session *session;
    sv_status status = host->session(x, 0, &session); /* 0: without making one */
    if (status == SV_NONE) return host->write(x, SV_LIT("nobody"), NULL);
    if (status != SV_OK) return status;

    sv_str count;
    unsigned visits = 0;
    status = host->session_attribute(session, SV_LIT("visits"), &count);
    if (status != SV_OK && status != SV_NONE) return status;
    for (size_t i = 0; i < count.len; i++) visits = visits * 10 + (unsigned)(count.ptr[i] - '0');
    char text[32];
    snprintf(text, sizeof text, "%u", ++visits);
    status = host->session_set_attribute(session, SV_LIT("visits"), text, strlen(text));

    /* All attributes, and what is known of the session itself. */
    const sv_pair *all;
    size_t all_count;
    const sv_session_info *info;
    if (status == SV_OK) status = host->session_attributes(session, &all, &all_count);
    if (status == SV_OK) status = host->session_info(x, &info);
    for (size_t i = 0; i < all_count && status == SV_OK; i++) {
        status = host->write(x, all[i].name.ptr, all[i].name.len, NULL);
        if (status == SV_OK) status = host->write(x, SV_LIT(": "), NULL);
        if (status == SV_OK) status = host->write(x, all[i].value.ptr, all[i].value.len, NULL);
        if (status == SV_OK) status = host->write(x, SV_LIT("\n"), NULL);
    }
    if (status != SV_OK) return status;
    char line[96];
    snprintf(line, sizeof line, "new %u, by cookie %u, ends after %ld s\n", (unsigned)info->is_new,
             (unsigned)info->requested_by_cookie, (long)info->max_inactive);
    return host->write(x, line, strlen(line), NULL);
}

/* POST /enter?name=...: makes a session, before anything is written: its id goes out as a cookie. */
static sv_status enter(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str name;
    sv_status status = host->parameter(x, SV_LIT("name"), 0, &name);
    if (status == SV_NONE) return host->send_error(x, 400, SV_LIT("say who you are: ?name=..."));
    sv_session *session;
    if (status == SV_OK) status = host->session(x, 1, &session);
    if (status == SV_OK) status = host->session_set_attribute(session, SV_LIT("name"), name.ptr, name.len);
    if (status == SV_OK) status = host->session_set_attribute(session, SV_LIT("visits"), NULL, 0); /* removes it */
    if (status == SV_OK) status = host->session_set_max_inactive(session, 600);
    /* A new id for somebody who has proved who they are: whoever knew the old one is left out. */
    sv_str id;
    if (status == SV_OK) status = host->session_change_id(session, &id);
    return status == SV_OK ? host->write(x, SV_LIT("welcome"), NULL) : status;
}

/* POST /leave: ends the session for good. */
static sv_status leave(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_session *session;
    sv_status status = host->session(x, 0, &session);
    if (status == SV_OK) status = host->session_invalidate(session);
    return status == SV_OK || status == SV_NONE ? host->write(x, SV_LIT("goodbye"), NULL) : status;
}

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

#define SERVLET(function, path, method) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .methods = method, \
        .name = SV_STR(#function), \
        .patterns = function##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .service = function, \
    }
SERVLET(visit, "", SV_GET);
SERVLET(enter, "/enter", SV_POST);
SERVLET(leave, "/leave", SV_POST);

static const sv_servlet *const servlets[] = {&visit_servlet, &enter_servlet, &leave_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("session"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 3,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
