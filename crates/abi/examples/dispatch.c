/* dispatch.c - servlets that use servlets: forward, include, by name, and dispatch after async work (Servlet 9).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o dispatch.so dispatch.c
 */
#include "servlet.h"

#include <string.h>

static const sv_host *host;

static sv_status put(sv_exchange *x, const char *label, sv_str value)
{
    const sv_str none = SV_STR("(none)");
    const sv_str shown = value.ptr != NULL ? value : none;
    sv_status status = host->write(x, label, strlen(label), NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT(": "), NULL);
    if (status == SV_OK) status = host->write(x, shown.ptr, shown.len, NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT("\n"), NULL);
    return status;
}

/* ------------------------------------------------------------------------------------------------ /target */
/* How a servlet sees that it was dispatched to. A forward shows it paths of its own; an include shows those of the
   includer, and its own as attributes. */
static sv_status target(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_INTERNAL;
    static const sv_str kinds[] = {SV_STR("request"), SV_STR("forward"), SV_STR("include"), SV_STR("error"),
                                   SV_STR("async")};
    size_t kind = 0;
    while (kind < 4 && request->dispatch != 1u << kind) kind++;
    sv_status status = put(x, "dispatch", kinds[kind]);
    if (status == SV_OK) status = put(x, "servlet path", request->servlet_path);

    static const char *const names[] = {"servlet.forward.servlet_path", "servlet.include.servlet_path",
                                        "servlet.async.servlet_path"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == SV_OK; i++) {
        sv_str value;
        status = host->attribute(x, names[i], strlen(names[i]), &value);
        if (status == SV_OK) status = put(x, names[i], value);
        if (status == SV_NONE) status = SV_OK;
    }
    sv_str word; /* of the query of the dispatch, or of the client's */
    if (status == SV_OK) status = host->parameter(x, SV_LIT("word"), 0, &word);
    return status == SV_OK || status == SV_NONE ? put(x, "word", word) : status;
}

/* ------------------------------------------------------------------------------------------------ the others */
/* /forward: the target answers in our place; what we had written is dropped. */
static sv_status forward(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_status status = host->write(x, SV_LIT("dropped"), NULL);
    if (status == SV_OK) status = host->dispatch(x, SV_FORWARD, SV_LIT("/target?word=hello"));
    /* It returned when the target had; an error of the target is ours to return, or to do something about. */
    return status == SV_NONE ? host->send_error(x, 404, SV_LIT("/target has gone")) : status;
}

/* /include: the target's output becomes part of ours. Of the status and headers that it sets nothing is seen. */
static sv_status include(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_status status = host->write(x, SV_LIT("before\n"), NULL);
    if (status == SV_OK) status = host->dispatch(x, SV_INCLUDE, SV_LIT("target"));
    if (status == SV_OK) status = host->write(x, SV_LIT("after\n"), NULL);
    return status;
}

/* /named: by the servlet's name, so that it needs no URL pattern, and all paths stay as they are. */
static sv_status named(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    return host->dispatch(x, SV_FORWARD | SV_BY_NAME, SV_LIT("target"));
}

/* /none: there is nothing at that path, and nothing has changed. */
static sv_status none(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_status status = host->dispatch(x, SV_FORWARD | SV_BY_NAME, SV_LIT("nobody"));
    return status == SV_NONE ? host->write(x, SV_LIT("no such servlet"), NULL) : status;
}

/* /later: a task waits, and then sends the exchange on. The task needs no memory: any pointer but NULL is one. */
static sv_status later(void *servlet, sv_exchange *x, void **task)
{
    static char nothing;
    (void)servlet;
    *task = &nothing;
    return host->context_timer(host->context(x), 10, host->waker(x)) == SV_OK ? SV_PENDING : SV_E_FAILED;
}

static sv_status later_poll(void *task, sv_exchange *x)
{
    (void)task;
    return host->async_dispatch(x, SV_LIT("/target?word=later")); /* SV_OK ends the task; the dispatch comes after it */
}

static void later_drop(void *task)
{
    (void)task;
}

/* ------------------------------------------------------------------------------------------------ the module */
static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module;
    (void)error;
    host = table;
    return SV_OK;
}

#define SERVLET(function, path, poll_, drop_) \
    static const sv_str function##_patterns[] = {SV_STR(path)}; \
    static const sv_servlet function##_servlet = { \
        .struct_size = sizeof(sv_servlet), \
        .methods = SV_GET, \
        .name = SV_STR(#function), \
        .patterns = function##_patterns, \
        .pattern_count = 1, \
        .load_order = -1, \
        .service = function, \
        .poll = poll_, \
        .drop = drop_, \
    }
SERVLET(target, "/target", NULL, NULL);
SERVLET(forward, "/forward", NULL, NULL);
SERVLET(include, "/include", NULL, NULL);
SERVLET(named, "/named", NULL, NULL);
SERVLET(none, "/none", NULL, NULL);
SERVLET(later, "/later", later_poll, later_drop);

static const sv_servlet *const servlets[] = {&target_servlet, &forward_servlet, &include_servlet,
                                             &named_servlet,  &none_servlet,    &later_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("dispatch"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof servlets[0],
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
