/* act.c - act: runs the script in its init parameter `do`, one command a line (commands.c), and goes on after it.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------ from text to steps */
static sv_str trimmed(sv_str line)
{
    while (line.len > 0 && isspace((unsigned char)line.ptr[0])) {
        line.ptr++;
        line.len--;
    }
    while (line.len > 0 && isspace((unsigned char)line.ptr[line.len - 1])) line.len--;
    return line;
}

static step parse_step(sv_str line)
{
    step step;
    sv_str command;
    step.guarded = begins_with(line, "try:");
    if (step.guarded) {
        line.ptr += strlen("try:");
        line.len -= strlen("try:");
    }
    split(line, ' ', &command, &step.rest);
    split(step.rest, ' ', &step.first, &step.second);
    step.run = find_command(command);
    return step;
}

bool parse_script(sv_str lines, step **steps, size_t *count)
{
    size_t most = 1;
    for (size_t i = 0; i < lines.len; i++) most += lines.ptr[i] == '\n';
    *count = 0;
    *steps = calloc(most, sizeof **steps);
    if (*steps == NULL) return false;
    for (sv_str line, rest = lines; rest.ptr != NULL;) {
        split(rest, '\n', &line, &rest);
        line = trimmed(line);
        if (line.len > 0) (*steps)[(*count)++] = parse_step(line);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the body */
/* Facts of the response that servlet.h does not have, as attributes: a script may go on in another servlet. */
#define KIND SV_LIT("act.kind")
#define CHARSET SV_LIT("act.charset")
#define CLOSED SV_LIT("act.closed")

bool has_writer(sv_exchange *x)
{
    sv_str kind;
    return host->attribute(x, KIND, &kind) == SV_OK && is(kind, "writer");
}

sv_status remember_charset(sv_exchange *x, sv_str charset)
{
    return host->set_attribute(x, CHARSET, charset.ptr, charset.len);
}

sv_status write_anew(sv_exchange *x)
{
    const sv_status status = host->set_attribute(x, CLOSED, NULL, 0);
    return status == SV_OK ? host->set_attribute(x, KIND, NULL, 0) : status;
}

sv_status close_head(sv_exchange *x)
{
    return host->set_attribute(x, CLOSED, SV_LIT("1"));
}

bool head_is_closed(sv_exchange *x)
{
    sv_str value;
    return host->attribute(x, CLOSED, &value) == SV_OK;
}

sv_status late(sv_status status)
{
    return status == SV_E_STATE ? SV_OK : status;
}

sv_status put_header(sv_exchange *x, const char *name, sv_str value)
{
    if (head_is_closed(x)) return SV_OK;
    return late(host->set_header(x, SV_HEADER_SET, name, strlen(name), value.ptr, value.len));
}

static bool is_latin1(sv_str charset)
{
    static const char name[] = "iso-8859-1";
    if (charset.len != sizeof name - 1) return false;
    for (size_t i = 0; i < charset.len; i++)
        if (tolower((unsigned char)charset.ptr[i]) != name[i]) return false;
    return true;
}

sv_status write_as(sv_exchange *x, const char *kind, sv_str utf8)
{
    sv_str before, charset;
    sv_status status = host->attribute(x, KIND, &before);
    if (status == SV_OK && !is(before, kind)) return SV_E_STATE;
    const bool writer = strcmp(kind, "writer") == 0;
    host->attribute(x, CHARSET, &charset); /* absent if it is not set */
    if (status == SV_NONE) {
        status = host->set_attribute(x, KIND, kind, strlen(kind));
        if (status == SV_OK && writer && charset.ptr == NULL) {
            charset = str("UTF-8");
            status = remember_charset(x, charset);
            if (status == SV_OK) status = late(host->set_charset(x, SV_LIT("UTF-8")));
        }
    }
    if (status != SV_OK) return status;
    text bytes = {NULL, 0, 0, false};
    if (writer && !is_latin1(charset)) add_str(&bytes, utf8);
    else add_latin1(&bytes, utf8);
    /* What is written after an error, a redirect or a forward is dropped in Java. */
    status = bytes.failed ? SV_E_NOMEM : late(host->write(x, bytes.ptr, bytes.len, NULL));
    free(bytes.ptr);
    return status;
}

/* ------------------------------------------------------------------------------------------------ after the script */
typedef struct job {
    sv_exchange *x;
    sv_str text;
} job;

/* On a thread of the context's pool, where it may wait. complete is owed, whatever has happened. */
static void run_job(void *argument)
{
    job *self = argument;
    host->complete(self->x, write_as(self->x, "writer", self->text));
    free(self);
}

static sv_status leave_to_job(const script *self)
{
    sv_context *context = host->context(self->x);
    job *made = malloc(sizeof *made);
    if (made == NULL) return SV_E_NOMEM;
    made->x = self->x;
    made->text = self->argument;
    sv_status status = host->detach(self->x, NULL, NULL);
    if (status == SV_OK) status = host->context_post(context, run_job, made);
    if (status == SV_OK) return SV_PENDING;
    free(made);
    return status; /* also completes a detached exchange */
}

static sv_status go_on(const script *self, void **task)
{
    sv_status status;
    switch (self->ends) {
    case NEVER:
        *task = self->servlet; /* any pointer but NULL: the task has nothing of its own */
        return SV_PENDING;
    case BY_JOB: return leave_to_job(self);
    case BY_DISPATCH:
        status = host->detach(self->x, NULL, NULL);
        if (status == SV_OK) status = host->async_dispatch(self->x, self->argument.ptr, self->argument.len);
        return status == SV_OK ? SV_PENDING : status;
    default: return SV_OK;
    }
}

/* Nobody wakes it; the server drops it when its time is up, or the client has gone. */
sv_status act_poll(void *task, sv_exchange *x)
{
    (void)task;
    (void)x;
    return SV_PENDING;
}

/* ------------------------------------------------------------------------------------------------ the script */
static sv_status run_step(script *self)
{
    const sv_status status = self->step->run(self);
    const char *exception = status == SV_E_STATE ? "IllegalStateException" : "IllegalArgumentException";
    if (status != SV_E_STATE && status != SV_E_ARG) return status;
    if (!self->step->guarded) {
        host->fail(self->x, SV_LIT("runtime/state"), exception, strlen(exception));
        return status;
    }
    add(&self->shown, SV_LIT("caught:"));
    add_str(&self->shown, str(exception));
    return put_header(self->x, "X-Caught", str(exception));
}

sv_status act_service(void *servlet, sv_exchange *x, void **task)
{
    const instance *self = servlet;
    script script = {.servlet = servlet, .x = x, .ends = AT_ONCE};
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_STATE;
    /* The body of an error page is a new one. */
    sv_status status = request->dispatch == SV_DISPATCH_ERROR ? write_anew(x) : SV_OK;
    for (size_t i = 0; i < self->step_count && status == SV_OK; i++) {
        script.step = &self->steps[i];
        status = run_step(&script);
    }
    if (status == SV_OK) status = script.shown.failed ? SV_E_NOMEM : go_on(&script, task);
    free(script.shown.ptr);
    return status;
}
