/* module.c - what this library is for the server: four servlets, a filter, and how an instance of each begins and ends.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <stdlib.h>

const sv_host *host;

sv_str init_parameter(const instance *self, const char *name)
{
    for (size_t i = 0; i < self->config->init_count; i++)
        if (is(self->config->init[i].name, name)) return self->config->init[i].value;
    return str(NULL);
}

/* ------------------------------------------------------------------------------------------------ instances */
/* For servlets and the filter alike: a servlet's `ms` or `do` that is not there costs nothing. */
static sv_status create(sv_context *context, void *module, const sv_config *config, void **made, sv_str *error)
{
    (void)context;
    (void)module;
    instance *self = calloc(1, sizeof *self);
    if (self == NULL) return SV_E_NOMEM;
    self->config = config;
    self->blocks = is(init_parameter(self, "mode"), "block");
    if (!number(init_parameter(self, "ms"), 0, INT64_MAX, &self->changed)) self->changed = -1;
    if (!parse_script(init_parameter(self, "do"), &self->steps, &self->step_count)) {
        *error = str("there is no memory for the script"); /* a literal: it lives as long as this library */
        free(self);
        return SV_E_NOMEM;
    }
    *made = self;
    return SV_OK;
}

static void destroy(void *made)
{
    instance *self = made;
    free(self->steps);
    free(self);
}

/* ------------------------------------------------------------------------------------------------ http, lastmod */
/* Says the method. The server answers the methods that are not declared, OPTIONS, and HEAD as GET without its body. */
static sv_status http_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_STATE;
    sv_status status = host->set_content_type(x, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->set_charset(x, SV_LIT("UTF-8"));
    if (status == SV_OK) status = host->write(x, SV_LIT("did "), NULL);
    return status == SV_OK ? host->write(x, request->method_name.ptr, request->method_name.len, NULL) : status;
}

static sv_status lastmod_service(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_status status = host->set_content_type(x, SV_LIT("text/plain"));
    if (status == SV_OK) status = host->set_charset(x, SV_LIT("UTF-8"));
    return status == SV_OK ? host->write(x, SV_LIT("body"), NULL) : status;
}

/* Asked before service; the server answers conditional requests, and sends the header Last-Modified. */
static int64_t lastmod_changed(void *servlet, sv_exchange *x)
{
    (void)x;
    const instance *self = servlet;
    return self->changed;
}

/* ------------------------------------------------------------------------------------------------ the module */
/* None has URL patterns: web.toml makes the instances, with names, patterns and init parameters of their own. */
#define SERVLET(name_) \
    .struct_size = sizeof(sv_servlet), .name = SV_STR(name_), .load_order = -1, .create = create, .destroy = destroy
/* drop stays NULL: a task of act has nothing to free. */
#define ACT .service = act_service, .poll = act_poll

static const sv_servlet echo_servlet = {SERVLET("echo"), .service = echo_service};
static const sv_servlet act_servlet = {SERVLET("act"), ACT};
/* In Rust, scripts that go on after service need a servlet of another kind; here it is the same one. */
static const sv_servlet act_async_servlet = {SERVLET("act-async"), ACT};
static const sv_servlet http_servlet = {SERVLET("http"), .methods = SV_GET | SV_POST, .service = http_service};
static const sv_servlet lastmod_servlet = {
    SERVLET("lastmod"), .methods = SV_GET, .service = lastmod_service, .last_modified = lastmod_changed};

static const sv_filter trace_filter = {
    .struct_size = sizeof(sv_filter),
    .name = SV_STR("trace"),
    .create = create,
    .destroy = destroy,
    .on_request = trace_request,
};

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error)
{
    (void)context;
    (void)module; /* stays NULL: what there is to keep is an instance's */
    (void)error;
    host = table;
    return SV_OK;
}

static const sv_servlet *const servlets[] = {
    &echo_servlet, &act_servlet, &act_async_servlet, &http_servlet, &lastmod_servlet};
static const sv_filter *const filters[] = {&trace_filter};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("fixtures"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = sizeof servlets / sizeof *servlets,
    .filters = filters,
    .filter_count = sizeof filters / sizeof *filters,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
