/* echo.c - prints what a servlet is told of a request, as JSON: most getters of servlet.h in one place.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ names of values */
static const char *protocol(uint32_t version)
{
    return version == 10 ? "HTTP/1.0" : version == 11 ? "HTTP/1.1" : version == 20 ? "HTTP/2.0" : "HTTP/3.0";
}

const char *dispatcher(uint32_t dispatch)
{
    switch (dispatch) {
    case SV_DISPATCH_FORWARD: return "FORWARD";
    case SV_DISPATCH_INCLUDE: return "INCLUDE";
    case SV_DISPATCH_ERROR: return "ERROR";
    case SV_DISPATCH_ASYNC: return "ASYNC";
    default: return "REQUEST";
    }
}

static const char *match_kind(int32_t kind)
{
    switch (kind) {
    case SV_MATCH_CONTEXT_ROOT: return "CONTEXT_ROOT";
    case SV_MATCH_DEFAULT: return "DEFAULT";
    case SV_MATCH_EXACT: return "EXACT";
    case SV_MATCH_EXTENSION: return "EXTENSION";
    case SV_MATCH_PATH: return "PATH";
    case SV_MATCH_TEMPLATE: return "TEMPLATE";
    default: return NULL; /* of a later version */
    }
}

/* As Java writes it, like match_kind. */
static sv_str match_named(sv_str value)
{
    for (int32_t kind = SV_MATCH_CONTEXT_ROOT; kind <= SV_MATCH_TEMPLATE; kind++) {
        const sv_str name = str(match_kind(kind));
        size_t i = 0;
        while (i < name.len && i < value.len && toupper((unsigned char)value.ptr[i]) == name.ptr[i]) i++;
        if (i == name.len && i == value.len) return name;
    }
    return value;
}

/* ------------------------------------------------------------------------------------------------ pairs by name */
static int by_name(const void *a, const void *b)
{
    const sv_pair *one = *(const sv_pair *const *)a, *other = *(const sv_pair *const *)b;
    const size_t shorter = one->name.len < other->name.len ? one->name.len : other->name.len;
    const int order = shorter == 0 ? 0 : memcmp(one->name.ptr, other->name.ptr, shorter);
    if (order != 0) return order;
    if (one->name.len != other->name.len) return one->name.len < other->name.len ? -1 : 1;
    return one < other ? -1 : 1; /* they are in one array, and those of one name stay in its order */
}

static bool same(sv_str one, sv_str other)
{
    return one.len == other.len && (one.len == 0 || memcmp(one.ptr, other.ptr, one.len) == 0);
}

/* Returns the pairs in the order of their names. The memory is the exchange's, so nobody has to free it. */
static const sv_pair **sorted(sv_exchange *x, const sv_pair *pairs, size_t count)
{
    const sv_pair **all = host->alloc(x, (count + 1) * sizeof *all, sizeof *all);
    if (all == NULL) return NULL;
    for (size_t i = 0; i < count; i++) all[i] = &pairs[i];
    qsort(all, count, sizeof *all, by_name);
    return all;
}

/* {"name": ["value", ...], ...} */
static sv_status grouped(sv_exchange *x, text *out, const char *name, const sv_pair *pairs, size_t count)
{
    const sv_pair **all = sorted(x, pairs, count);
    if (all == NULL) return SV_E_NOMEM;
    json_open(out, name, '{');
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !same(all[i]->name, all[i - 1]->name)) {
            if (i > 0) json_close(out, ']');
            json_name(out, all[i]->name);
            json_open(out, NULL, '[');
        }
        json_text(out, NULL, all[i]->value);
    }
    if (count > 0) json_close(out, ']');
    json_close(out, '}');
    return SV_OK;
}

/* ------------------------------------------------------------------------------------------ parts of the answer */
static void request_line(sv_exchange *x, text *out, const sv_request *request)
{
    sv_str app;
    host->context_parameter(host->context(x), SV_LIT("app"), &app); /* absent with any other status than SV_OK */
    json_text(out, "app", app);
    json_text(out, "method", request->method_name);
    json_text(out, "protocol", str(protocol(request->http_version)));
    json_text(out, "scheme", request->scheme);
    json_bool(out, "secure", request->secure == 1);
    json_text(out, "serverName", request->server_name);
    json_int(out, "serverPort", request->server_port);
    json_text(out, "remoteAddr", request->remote_addr);
    json_text(out, "remoteHost", request->remote_addr); /* names are not looked up */
}

static void paths(text *out, const sv_request *request)
{
    json_text(out, "contextPath", request->context_path);
    json_text(out, "servletPath", request->servlet_path);
    json_text(out, "pathInfo", request->path_info);
    json_text(out, "requestURI", request->request_uri);
    json_text(out, "queryString", request->query);
    json_text(out, "dispatcher", str(dispatcher(request->dispatch)));
}

/* The whole URL is not sent by anybody: it is put together. */
static void url(text *out, const sv_request *request)
{
    const uint32_t usual = is(request->scheme, "https") ? 443 : 80;
    char port[16];
    text whole = {NULL, 0, 0, false};
    add_str(&whole, request->scheme);
    add(&whole, SV_LIT("://"));
    add_str(&whole, request->server_name);
    if (request->server_port != usual) {
        add(&whole, port, (size_t)snprintf(port, sizeof port, ":%lu", (unsigned long)request->server_port));
    }
    add_str(&whole, request->request_uri);
    json_text(out, "requestURL", (sv_str){whole.ptr, whole.len});
    out->failed = out->failed || whole.failed;
    free(whole.ptr);
}

static void mapping(text *out, const sv_request *request)
{
    const bool has_no_value = request->match_kind == SV_MATCH_CONTEXT_ROOT || request->match_kind == SV_MATCH_DEFAULT;
    json_open(out, "mapping", '{');
    /* For these two servlet.h has no value, and Java the empty text. */
    json_text(out, "value", request->match_value.ptr == NULL && has_no_value ? str("") : request->match_value);
    json_text(out, "pattern", request->match_pattern);
    json_text(out, "match", str(match_kind(request->match_kind)));
    json_text(out, "servlet", request->servlet_name);
    json_close(out, '}');
}

static sv_status user(sv_exchange *x, text *out)
{
    sv_str name, method;
    const sv_status status = host->principal(x, &name, &method); /* SV_NONE: nobody; both are absent */
    json_text(out, "user", name);
    json_text(out, "authType", method);
    return status == SV_NONE ? SV_OK : status;
}

static sv_status cookies(sv_exchange *x, text *out)
{
    const sv_pair *all;
    size_t count;
    const sv_status status = host->cookies(x, &all, &count);
    json_open(out, "cookies", '[');
    for (size_t i = 0; i < count; i++) {
        json_open(out, NULL, '[');
        json_text(out, NULL, all[i].name);
        json_text(out, NULL, all[i].value);
        json_close(out, ']');
    }
    json_close(out, ']');
    return status;
}

static sv_status parameters(sv_exchange *x, text *out)
{
    const sv_pair *all;
    size_t count;
    const sv_status status = host->parameters(x, &all, &count); /* reads the body of a form */
    return status == SV_OK ? grouped(x, out, "params", all, count) : status;
}

static sv_status session(sv_exchange *x, text *out)
{
    const sv_session_info *info;
    const sv_status status = host->session_info(x, &info);
    if (status != SV_OK) return status;
    json_open(out, "session", '{');
    json_text(out, "requested", info->requested_id);
    json_bool(out, "fromCookie", info->requested_by_cookie == 1);
    json_bool(out, "fromURL", info->requested_by_url == 1);
    json_bool(out, "valid", info->requested_valid == 1);
    json_close(out, '}');
    return SV_OK;
}

/* One attribute, and how many of the list it took: forward.mapping.value and the three beside it are one object. */
static size_t attribute(text *out, const sv_pair **all, size_t count)
{
    static const char of_server[] = "servlet.", of_mapping[] = ".mapping.";
    sv_str name = all[0]->name;
    if (!begins_with(name, of_server)) {
        const bool shown = begins_with(name, "cors.") || begins_with(name, "fx.") || begins_with(name, "X-");
        if (!shown) return 1;
        json_name(out, name);
        if (!is(name, "fx.trail")) {
            json_text(out, NULL, all[0]->value);
            return 1;
        }
        json_open(out, NULL, '[');
        for (sv_str item, rest = all[0]->value; rest.ptr != NULL;) {
            split(rest, ',', &item, &rest);
            json_text(out, NULL, item);
        }
        json_close(out, ']');
        return 1;
    }
    name.ptr += sizeof of_server - 1;
    name.len -= sizeof of_server - 1;
    sv_str outer, inner;
    split(name, '.', &outer, &inner);
    if (inner.ptr == NULL || !begins_with(inner, of_mapping + 1)) {
        json_name(out, name);
        json_text(out, NULL, all[0]->value);
        return 1;
    }
    outer.len += sizeof of_mapping - 2; /* forward.mapping */
    json_name(out, outer);
    json_open(out, NULL, '{');
    size_t taken = 0;
    const size_t prefix = sizeof of_server - 1 + outer.len + 1;
    for (; taken < count; taken++) {
        const sv_pair *pair = all[taken];
        if (pair->name.len <= prefix || memcmp(pair->name.ptr, all[0]->name.ptr, prefix) != 0) break;
        const sv_str member = {pair->name.ptr + prefix, pair->name.len - prefix};
        json_name(out, member);
        json_text(out, NULL, is(member, "match") ? match_named(pair->value) : pair->value);
    }
    json_close(out, '}');
    return taken;
}

static sv_status attributes(sv_exchange *x, text *out)
{
    const sv_pair *pairs;
    size_t count;
    const sv_status status = host->attributes(x, &pairs, &count);
    if (status != SV_OK) return status;
    const sv_pair **all = sorted(x, pairs, count);
    if (all == NULL) return SV_E_NOMEM;
    json_open(out, "attrs", '{');
    for (size_t i = 0; i < count;) i += attribute(out, all + i, count - i);
    json_close(out, '}');
    return SV_OK;
}

static sv_status parts(sv_exchange *x, text *out)
{
    size_t count;
    sv_status status = host->part_count(x, &count); /* reads the body */
    json_open(out, "parts", '[');
    for (size_t i = 0; i < count && status == SV_OK; i++) {
        const sv_part *part;
        status = host->part(x, i, &part);
        if (status != SV_OK) break;
        json_open(out, NULL, '{');
        json_text(out, "name", part->name);
        json_text(out, "file", part->file_name);
        json_int(out, "size", (int64_t)part->size);
        json_text(out, "type", part->content_type);
        json_close(out, '}');
    }
    json_close(out, ']');
    return status;
}

/* ------------------------------------------------------------------------------------------------ the answer */
static sv_status describe(const instance *self, sv_exchange *x, text *out)
{
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_STATE;
    json_open(out, NULL, '{');
    json_text(out, "servlet", self->config->name);
    request_line(x, out, request);
    paths(out, request);
    url(out, request);
    mapping(out, request);
    json_text(out, "contentType", request->content_type);
    json_text(out, "charset", request->charset.ptr == NULL ? str("UTF-8") : request->charset); /* as forms are read */
    sv_status status = grouped(x, out, "headers", request->headers, request->header_count);
    if (status == SV_OK) status = user(x, out);
    if (status == SV_OK) status = session(x, out);
    if (status == SV_OK) status = cookies(x, out);
    if (status == SV_OK) status = parameters(x, out);
    if (status == SV_OK) status = attributes(x, out);
    if (status == SV_OK && is(init_parameter(self, "parts"), "1") && begins_with(request->content_type, "multipart/"))
        status = parts(x, out);
    json_close(out, '}');
    return status == SV_OK && out->failed ? SV_E_NOMEM : status;
}

sv_status echo_service(void *servlet, sv_exchange *x, void **task)
{
    (void)task;
    text out = {NULL, 0, 0, false};
    /* An error goes back as it is: the server knows by itself which status fits a form that is too large. */
    sv_status status = describe(servlet, x, &out);
    if (status == SV_OK) status = host->set_content_type(x, SV_LIT("application/json"));
    if (status == SV_OK) status = host->set_charset(x, SV_LIT("UTF-8"));
    if (status == SV_OK) status = host->write(x, out.ptr, out.len, NULL);
    free(out.ptr);
    return status;
}
