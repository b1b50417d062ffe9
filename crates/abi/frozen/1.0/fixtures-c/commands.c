/* commands.c - the commands of act's scripts, most of them one function of servlet.h.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * An error goes back as it came: act.c notes it for `try:`, or ends the script with it.
 */
#include "fixtures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the first word. A bad one is a wrong argument, as in Java. */
#define FIRST_NUMBER(self, most, value) \
    if (!number((self)->step->first, 0, (most), (value))) return SV_E_ARG

static sv_str boolean(bool value)
{
    return str(value ? "true" : "false");
}

/* ------------------------------------------------------------------------------------------------ the head */
static sv_status do_status(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    int64_t status;
    FIRST_NUMBER(self, UINT32_MAX, &status);
    return late(host->set_status(self->x, (uint32_t)status));
}

static sv_status set_header(script *self, int32_t how)
{
    if (head_is_closed(self->x)) return SV_OK;
    const sv_str name = self->step->first, value = self->step->second;
    const sv_status status = host->set_header(self->x, how, name.ptr, name.len, value.ptr, value.len);
    return status == SV_E_ARG ? SV_OK : late(status); /* a header that cannot be sent is not sent */
}

static sv_status do_header(script *self)
{
    return set_header(self, SV_HEADER_SET);
}

static sv_status do_add_header(script *self)
{
    return set_header(self, SV_HEADER_ADD);
}

static sv_status do_type(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    static const char of_charset[] = "charset=";
    sv_str given = self->step->rest, type, charset;
    split(given, ';', &type, &charset);
    while (charset.len > 0 && charset.ptr[0] == ' ') {
        charset.ptr++;
        charset.len--;
    }
    if (begins_with(charset, of_charset)) {
        charset.ptr += sizeof of_charset - 1;
        charset.len -= sizeof of_charset - 1;
        if (has_writer(self->x)) {
            given = type;
        } else {
            const sv_status status = remember_charset(self->x, charset);
            if (status != SV_OK) return status;
        }
    }
    return late(host->set_content_type(self->x, given.ptr, given.len));
}

static sv_status do_encoding(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    const sv_str charset = self->step->first;
    if (has_writer(self->x)) return SV_OK;
    const sv_status status = remember_charset(self->x, charset);
    return status == SV_OK ? late(host->set_charset(self->x, charset.ptr, charset.len)) : status;
}

static sv_status do_length(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    int64_t bytes;
    FIRST_NUMBER(self, INT64_MAX, &bytes);
    return host->set_content_length(self->x, (uint64_t)bytes);
}

/* name|value|key=value|... */
static sv_status do_cookie(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    sv_pair others[16];
    sv_cookie cookie = {.struct_size = sizeof cookie, .attributes = others};
    sv_str rest, piece;
    split(self->step->rest, '|', &cookie.name, &rest);
    split(rest, '|', &cookie.value, &rest);
    while (rest.ptr != NULL) {
        sv_str key, value;
        int64_t age;
        split(rest, '|', &piece, &rest);
        split(piece, '=', &key, &value);
        if (is(key, "path")) {
            cookie.path = value;
        } else if (is(key, "domain")) {
            cookie.domain = value;
        } else if (is(key, "maxAge")) {
            if (!number(value, INT32_MIN, INT32_MAX, &age)) return SV_E_ARG;
            /* In Java a negative one is a cookie of the browser's session. */
            if (age >= 0) cookie.flags |= SV_COOKIE_MAX_AGE;
            cookie.max_age = age;
        } else if (is(key, "secure")) {
            cookie.flags |= SV_COOKIE_SECURE;
        } else if (is(key, "httpOnly")) {
            cookie.flags |= SV_COOKIE_HTTP_ONLY;
        } else if (cookie.attribute_count < sizeof others / sizeof *others) {
            others[cookie.attribute_count++] = (sv_pair){key, value};
        } else {
            return SV_E_LIMIT;
        }
    }
    return late(host->set_cookie(self->x, &cookie));
}

static sv_status do_encode_url(script *self)
{
    sv_str encoded;
    const sv_status status = host->encode_url(self->x, self->step->rest.ptr, self->step->rest.len, &encoded);
    return status == SV_OK ? put_header(self->x, "X-Encoded", encoded) : status;
}

static sv_status do_mime_of(script *self)
{
    const sv_str file = self->step->rest;
    sv_str type;
    const sv_status status = host->context_mime_type(host->context(self->x), file.ptr, file.len, &type);
    if (status != SV_OK && status != SV_NONE) return status;
    return put_header(self->x, "X-Mime", status == SV_OK ? type : str("null"));
}

/* ------------------------------------------------------------------------------------------------ the body */
static sv_status do_write(script *self)
{
    return write_as(self->x, "writer", self->step->rest);
}

static sv_status do_write_n(script *self)
{
    int64_t count;
    FIRST_NUMBER(self, 64 << 20, &count);
    char *bytes = malloc((size_t)count + 1);
    if (bytes == NULL) return SV_E_NOMEM;
    memset(bytes, 'x', (size_t)count);
    const sv_status status = write_as(self->x, "writer", (sv_str){bytes, (size_t)count});
    free(bytes);
    return status;
}

static sv_status do_show(script *self)
{
    return write_as(self->x, "writer", (sv_str){self->shown.ptr, self->shown.len});
}

static sv_status do_bytes(script *self)
{
    return write_as(self->x, "stream", self->step->rest);
}

static sv_status do_flush(script *self)
{
    return host->flush(self->x);
}

static sv_status do_buffer(script *self)
{
    int64_t bytes;
    FIRST_NUMBER(self, INT32_MAX, &bytes);
    return host->set_buffer_size(self->x, (size_t)bytes);
}

static sv_status do_reset(script *self)
{
    sv_status status = host->reset(self->x);
    if (status == SV_OK) status = write_anew(self->x);
    return status == SV_OK ? remember_charset(self->x, str(NULL)) : status;
}

static sv_status do_reset_buffer(script *self)
{
    return host->reset_buffer(self->x);
}

static sv_status do_committed(script *self)
{
    const int32_t committed = host->committed(self->x);
    if (committed < 0) return committed;
    add_str(&self->shown, boolean(committed == 1));
    return put_header(self->x, "X-Committed", boolean(committed == 1));
}

/* ------------------------------------------------------------------------------------------------ other answers */
static sv_status do_error(script *self)
{
    int64_t status;
    FIRST_NUMBER(self, UINT32_MAX, &status);
    const sv_str text = self->step->second;
    const sv_status done = host->send_error(self->x, (uint32_t)status, text.ptr, text.len);
    return done == SV_OK ? close_head(self->x) : done;
}

static sv_status do_redirect(script *self)
{
    const sv_status done = host->redirect(self->x, 0, self->step->rest.ptr, self->step->rest.len);
    return done == SV_OK ? close_head(self->x) : done;
}

static sv_status failed(script *self, const char *kind, const char *text)
{
    host->fail(self->x, kind, strlen(kind), text, strlen(text));
    return SV_E_FAILED;
}

static sv_status do_throw(script *self)
{
    const sv_str what = self->step->first;
    int64_t seconds;
    if (is(what, "unavailable-forever") || is(what, "unavailable")) {
        if (!number(self->step->second, 1, UINT32_MAX, &seconds)) seconds = 0;
        host->unavailable(self->x, (uint32_t)seconds, SV_LIT("unavailable"));
        return SV_E_FAILED;
    }
    if (is(what, "io")) return failed(self, "io", "boom");
    /* The text of the outer one, the kind of the inner one, as Tomcat tells them to the error page. */
    if (is(what, "servlet-io")) return failed(self, "io", "wrapped");
    if (is(what, "fnf")) return failed(self, "io/not-found", "boom");
    if (is(what, "servlet")) return failed(self, "servlet", "boom");
    if (is(what, "custom")) return failed(self, "runtime/custom", "boom");
    return failed(self, "runtime", "boom");
}

/* ------------------------------------------------------------------------------------------------ dispatches */
static sv_status dispatch(script *self, int32_t how, sv_str target)
{
    const sv_status status = host->dispatch(self->x, how, target.ptr, target.len);
    return status == SV_NONE ? failed(self, "runtime", "there is no such target") : status; /* null in Java */
}

static sv_status do_forward(script *self)
{
    const sv_status done = dispatch(self, SV_FORWARD, self->step->rest);
    return done == SV_OK ? close_head(self->x) : done;
}

static sv_status do_include(script *self)
{
    return dispatch(self, SV_INCLUDE, self->step->rest);
}

static sv_status do_named_forward(script *self)
{
    const sv_status done = dispatch(self, SV_FORWARD | SV_BY_NAME, self->step->first);
    return done == SV_OK ? close_head(self->x) : done;
}

static sv_status do_named_include(script *self)
{
    return dispatch(self, SV_INCLUDE | SV_BY_NAME, self->step->first);
}

/* ------------------------------------------------------------------------------------------------ the request */
static sv_status do_attr(script *self)
{
    sv_str name = self->step->first;
    const sv_str value = self->step->second;
    if (begins_with(name, "jakarta.")) {
        /* Those of the server cannot be set: the script fails, as it does in Tomcat, where a text is no exception. */
        name.ptr += strlen("jakarta.");
        name.len -= strlen("jakarta.");
    }
    return host->set_attribute(self->x, name.ptr, name.len, value.ptr, value.len);
}

static sv_status do_read(script *self)
{
    char buffer[8192], count[24];
    uint64_t bytes = 0;
    sv_status status;
    for (size_t len; (status = host->read(self->x, buffer, sizeof buffer, &len)) == SV_OK;) bytes += len;
    if (status != SV_END) return status;
    snprintf(count, sizeof count, "%" PRIu64, bytes);
    return put_header(self->x, "X-Read", str(count));
}

static sv_status do_login(script *self)
{
    const sv_str name = self->step->first, password = self->step->second;
    const sv_status status = host->login(self->x, name.ptr, name.len, password.ptr, password.len);
    return status == SV_NONE ? failed(self, "servlet", "wrong name or password") : status;
}

static sv_status do_logout(script *self)
{
    return host->logout(self->x);
}

static sv_status do_has_role(script *self)
{
    if (head_is_closed(self->x)) return SV_OK;
    const sv_str role = self->step->first;
    const sv_status has = host->in_role(self->x, role.ptr, role.len);
    if (has != SV_OK && has != SV_NONE) return has;
    text name = {NULL, 0, 0, false};
    add(&name, SV_LIT("X-Role-"));
    add_str(&name, role);
    const sv_str value = boolean(has == SV_OK);
    const sv_status status =
        name.failed ? SV_E_NOMEM
                    : late(host->set_header(self->x, SV_HEADER_ADD, name.ptr, name.len, value.ptr, value.len));
    free(name.ptr);
    return status;
}

static sv_status do_echo(script *self)
{
    void *task = NULL;
    return echo_service(self->servlet, self->x, &task);
}

/* ------------------------------------------------------------------------------------------------ sessions */
static sv_status do_session(script *self)
{
    sv_session *session;
    const sv_session_info *info;
    sv_status status = host->session(self->x, 1, &session);
    if (status == SV_OK) status = host->session_info(self->x, &info);
    if (status != SV_OK) return status;
    status = put_header(self->x, "X-Session-New", boolean(info->is_new == 1));
    return status == SV_OK ? put_header(self->x, "X-Session-Id", info->id) : status;
}

static sv_status do_session_if(script *self)
{
    sv_session *session;
    const sv_session_info *info;
    sv_status status = host->session(self->x, 0, &session);
    if (status == SV_NONE) return put_header(self->x, "X-Session", str("none"));
    if (status == SV_OK) status = host->session_info(self->x, &info);
    return status == SV_OK ? put_header(self->x, "X-Session", info->id) : status;
}

static sv_status do_put(script *self)
{
    const sv_str name = self->step->first, value = self->step->second;
    sv_session *session;
    const sv_status status = host->session(self->x, 1, &session);
    return status == SV_OK ? host->session_set_attribute(session, name.ptr, name.len, value.ptr, value.len) : status;
}

static sv_status do_get(script *self)
{
    sv_session *session;
    sv_str value;
    sv_status status = host->session(self->x, 0, &session);
    if (status == SV_OK)
        status = host->session_attribute(session, self->step->first.ptr, self->step->first.len, &value);
    if (status == SV_NONE) value = str("null");
    else if (status != SV_OK) return status;
    return put_header(self->x, "X-Get", value);
}

static sv_status do_rotate(script *self)
{
    sv_session *session;
    sv_str id;
    sv_status status = host->session(self->x, 0, &session);
    if (status == SV_NONE) return SV_E_STATE;
    if (status == SV_OK) status = host->session_change_id(session, &id);
    return status == SV_OK ? put_header(self->x, "X-Rotated", id) : status;
}

static sv_status do_invalidate(script *self)
{
    sv_session *session;
    const sv_status status = host->session(self->x, 1, &session);
    return status == SV_OK ? host->session_invalidate(session) : status;
}

static sv_status do_max_inactive(script *self)
{
    sv_session *session;
    int64_t seconds;
    if (!number(self->step->first, INT32_MIN, INT32_MAX, &seconds)) return SV_E_ARG;
    const sv_status status = host->session(self->x, 1, &session);
    return status == SV_OK ? host->session_set_max_inactive(session, seconds) : status;
}

/* ------------------------------------------------------------------------------------------------ async */
/* The script runs to its end first, as in Java; then act.c does what was asked for. */
static sv_status do_async_timeout(script *self)
{
    int64_t milliseconds;
    FIRST_NUMBER(self, INT64_MAX, &milliseconds);
    if (self->ends != AT_ONCE) return SV_E_STATE;
    self->ends = NEVER;
    return host->set_timeout(self->x, (uint64_t)milliseconds);
}

static sv_status do_async_complete(script *self)
{
    if (self->ends != AT_ONCE) return SV_E_STATE;
    self->ends = BY_JOB;
    self->argument = self->step->rest;
    return SV_OK;
}

static sv_status do_async_dispatch(script *self)
{
    if (self->ends != AT_ONCE) return SV_E_STATE;
    self->ends = BY_DISPATCH;
    self->argument = self->step->rest;
    return SV_OK;
}

/* ------------------------------------------------------------------------------------------------ the table */
static sv_status do_nothing_known(script *self)
{
    return failed(self, "servlet", "the script has a command that there is not");
}

static const struct {
    const char *name;
    sv_status (*run)(script *);
} commands[] = {
    {"status", do_status},
    {"header", do_header},
    {"addHeader", do_add_header},
    {"type", do_type},
    {"encoding", do_encoding},
    {"length", do_length},
    {"cookie", do_cookie},
    {"encodeURL", do_encode_url},
    {"mimeOf", do_mime_of},
    {"write", do_write},
    {"writeN", do_write_n},
    {"show", do_show},
    {"bytes", do_bytes},
    {"flush", do_flush},
    {"buffer", do_buffer},
    {"reset", do_reset},
    {"resetBuffer", do_reset_buffer},
    {"committed", do_committed},
    {"error", do_error},
    {"redirect", do_redirect},
    {"throw", do_throw},
    {"forward", do_forward},
    {"include", do_include},
    {"namedForward", do_named_forward},
    {"namedInclude", do_named_include},
    {"attr", do_attr},
    {"read", do_read},
    {"login", do_login},
    {"logout", do_logout},
    {"hasRole", do_has_role},
    {"echo", do_echo},
    {"session", do_session},
    {"sessionIf", do_session_if},
    {"put", do_put},
    {"get", do_get},
    {"rotate", do_rotate},
    {"invalidate", do_invalidate},
    {"maxInactive", do_max_inactive},
    {"asyncTimeout", do_async_timeout},
    {"asyncComplete", do_async_complete},
    {"asyncDispatch", do_async_dispatch},
};

sv_status (*find_command(sv_str name))(script *)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (is(name, commands[i].name)) return commands[i].run;
    return do_nothing_known;
}
