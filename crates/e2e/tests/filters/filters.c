/* Filters and listener functions, and a servlet that they are tried on. */
#include <servlet.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sv_host *host;
static int ends, initialized, destroyed, sessions, attributes, out_of_order, circles;

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static int is_param(sv_exchange *exchange, const char *name, const char *value) {
    sv_str found;
    return host->parameter(exchange, name, strlen(name), 0, &found) == SV_OK && found.len == strlen(value) &&
           memcmp(found.ptr, value, found.len) == 0;
}

/* ------------------------------------------------------------------ trace: what it sees, as headers */
static sv_status create(sv_context *context, void *module, const sv_config *config, void **filter, sv_str *error) {
    (void)context;
    (void)module;
    (void)error;
    *filter = (void *)config;
    return SV_OK;
}

static void note(sv_exchange *exchange, const sv_config *config, const char *what) {
    char line[200];
    int len = snprintf(line, sizeof line, "%.*s:%s", (int)config->name.len, config->name.ptr, what);
    host->set_header(exchange, SV_HEADER_ADD, SV_LIT("x-trail"), line, (size_t)len);
}

static sv_status trace_request(void *filter, sv_exchange *exchange, void **state) {
    const sv_config *config = filter;
    note(exchange, config, "request");
    if (is_param(exchange, "block", "yes")) {
        host->set_status(exchange, 299);
        host->write(exchange, SV_LIT("blocked"), NULL);
        return SV_OK;
    }
    if (is_param(exchange, "fail", "request")) {
        return SV_E_FAILED;
    }
    *state = filter;
    return SV_NEXT;
}

/* The target of a forward, which has ended when the filter's on_end sees it again. */
static int goes_up(const sv_request *request) {
    const char up[] = "/x/up/inner";
    return request->request_uri.len == sizeof up - 1 && memcmp(request->request_uri.ptr, up, sizeof up - 1) == 0 &&
           request->target.len > sizeof up && memcmp(request->target.ptr, up, sizeof up - 1) == 0;
}

static sv_status trace_response(void *filter, sv_exchange *exchange, void *state) {
    char text[32];
    uint32_t status = 0;
    (void)state;
    if (is_param(exchange, "fail", "response")) {
        return SV_E_FAILED;
    }
    if (is_param(exchange, "make", "session")) {
        sv_session *session;
        host->session(exchange, 1, &session);
    }
    if (is_param(exchange, "look", "late") && !goes_up(host->request(exchange))) {
        return SV_E_FAILED;
    }
    host->response_status(exchange, &status);
    sprintf(text, "response %u", status);
    note(exchange, filter, text);
    return host->write(exchange, SV_LIT("x"), NULL) == SV_E_STATE ? SV_OK : SV_E_FAILED;
}

static void trace_end(void *filter, sv_exchange *exchange, void *state, sv_status result) {
    (void)result;
    if (state != filter || host->set_status(exchange, 200) != SV_E_STATE) {
        abort();
    }
    if (is_param(exchange, "look", "late") && !goes_up(host->request(exchange))) {
        abort();
    }
    __atomic_add_fetch(&ends, 1, __ATOMIC_SEQ_CST);
}

/* ------------------------------------------------------------------ upper: rewrites the body, and adds an end to it */
static sv_status upper_body(void *filter, sv_exchange *exchange, void *state, const char *bytes, size_t len, int32_t last) {
    size_t i;
    (void)filter;
    (void)state;
    if (is_param(exchange, "fail", "body")) {
        return SV_E_FAILED;
    }
    for (i = 0; i < len; i++) {
        char c = (char)toupper((unsigned char)bytes[i]);
        sv_status status = host->write(exchange, &c, 1, NULL);
        if (status != SV_OK) {
            return status;
        }
    }
    return last ? host->write(exchange, SV_LIT("!"), NULL) : SV_OK;
}

/* ------------------------------------------------------------------ the servlet */
static sv_status text(void *servlet, sv_exchange *exchange, void **task) {
    char line[200];
    int i;
    (void)servlet;
    (void)task;
    if (is_param(exchange, "as", "long")) {
        for (i = 0; i < 10000; i++) {
            sv_status status = host->write(exchange, SV_LIT("0123456789abcdef"), NULL);
            if (status != SV_OK) {
                return status;
            }
        }
        return SV_OK;
    }
    if (is_param(exchange, "as", "error")) {
        return host->send_error(exchange, 404, SV_LIT("gone"));
    }
    if (is_param(exchange, "as", "failure")) {
        return SV_E_FAILED;
    }
    if (is_param(exchange, "as", "flushed")) {
        host->write(exchange, SV_LIT("a"), NULL);
        host->flush(exchange);
        return host->write(exchange, SV_LIT("b"), NULL);
    }
    if (is_param(exchange, "as", "length")) {
        sv_status status;
        host->set_content_length(exchange, 3);
        if ((status = host->write(exchange, SV_LIT("abc"), NULL)) != SV_OK ||
            (status = host->write(exchange, SV_LIT("def"), NULL)) != SV_OK) {
            return status;
        }
        return host->flush(exchange);
    }
    if (is_param(exchange, "as", "around")) {
        host->set_status(exchange, 299);
        host->write(exchange, SV_LIT("<"), NULL);
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("/counts"));
        return host->write(exchange, SV_LIT(">"), NULL);
    }
    if (is_param(exchange, "as", "both")) {
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("/inner?as=plain"));
        return host->dispatch(exchange, SV_FORWARD, SV_LIT("/up/inner?as=plain"));
    }
    if (is_param(exchange, "as", "wrong")) {
        sv_status status = host->dispatch(exchange, SV_FORWARD, SV_LIT("/counts?a=%zz"));
        return status == SV_E_ARG ? SV_E_FAILED : status;
    }
    if (is_param(exchange, "as", "forward")) {
        /* No client can send this query. */
        return host->dispatch(exchange, SV_FORWARD, SV_LIT("/up/inner?as=plain&q=<a b>"));
    }
    if (is_param(exchange, "as", "circle")) {
        __atomic_add_fetch(&circles, 1, __ATOMIC_SEQ_CST);
        return host->dispatch(exchange, SV_FORWARD, SV_LIT("/text?as=circle"));
    }
    if (is_param(exchange, "as", "circles")) {
        sprintf(line, "circles %d", __atomic_load_n(&circles, __ATOMIC_SEQ_CST));
        return host->write(exchange, line, strlen(line), NULL);
    }
    if (is_param(exchange, "as", "file")) {
        return host->dispatch(exchange, SV_FORWARD, SV_LIT("/file.txt"));
    }
    if (is_param(exchange, "as", "files")) {
        host->dispatch(exchange, SV_INCLUDE + SV_BY_NAME, SV_LIT("default"));
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("/inner?as=file"));
        return host->dispatch(exchange, SV_INCLUDE, SV_LIT("/inner?as=default"));
    }
    if (is_param(exchange, "as", "default")) {
        return host->dispatch(exchange, SV_INCLUDE + SV_BY_NAME, SV_LIT("default"));
    }
    if (is_param(exchange, "as", "include")) {
        host->write(exchange, SV_LIT("<"), NULL);
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("inner?as=plain"));
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("/file.txt"));
        host->dispatch(exchange, SV_INCLUDE + SV_BY_NAME, SV_LIT("counts"));
        if (host->dispatch(exchange, SV_INCLUDE, SV_LIT("/none.txt")) != SV_E_FAILED) {
            return SV_E_FAILED;
        }
        return host->write(exchange, SV_LIT(">"), NULL);
    }
    if (is_param(exchange, "as", "visitor")) {
        sv_session *session;
        return host->session(exchange, 1, &session);
    }
    if (is_param(exchange, "as", "session")) {
        sv_session *session;
        sv_status status = host->session(exchange, 1, &session);
        if (status == SV_OK) {
            host->session_set_attribute(session, SV_LIT("a"), SV_LIT("1"));
            host->session_set_attribute(session, SV_LIT("a"), SV_LIT("2"));
            host->session_invalidate(session);
        }
        return status;
    }
    sprintf(line, "plain %u", host->request(exchange)->dispatch);
    return host->write(exchange, line, strlen(line), NULL);
}

/* Writes, and lets another servlet go on. */
static sv_status again(void *servlet, sv_exchange *exchange, void **task) {
    sv_status status = host->detach(exchange, NULL, NULL);
    (void)servlet;
    (void)task;
    if (status != SV_OK) {
        return status;
    }
    host->write(exchange, SV_LIT("ab"), NULL);
    status = host->async_dispatch(exchange, SV_LIT("/text"));
    return status == SV_OK ? SV_PENDING : status;
}

static sv_status counts(void *servlet, sv_exchange *exchange, void **task) {
    char line[200];
    (void)servlet;
    (void)task;
    if (host->request(exchange)->dispatch == SV_DISPATCH_INCLUDE) {
        host->set_status(exchange, 500);
        return host->write(exchange, SV_LIT("named"), NULL);
    }
    if (__atomic_load_n(&out_of_order, __ATOMIC_SEQ_CST) > 0) {
        return SV_E_FAILED;
    }
    sprintf(line, "ends %d, requests %d %d, sessions %d, attributes %d", __atomic_load_n(&ends, __ATOMIC_SEQ_CST),
            __atomic_load_n(&initialized, __ATOMIC_SEQ_CST), __atomic_load_n(&destroyed, __ATOMIC_SEQ_CST),
            __atomic_load_n(&sessions, __ATOMIC_SEQ_CST), __atomic_load_n(&attributes, __ATOMIC_SEQ_CST));
    return host->write(exchange, line, strlen(line), NULL);
}

/* ------------------------------------------------------------------ listener functions */
static int has(sv_exchange *exchange, const char *attribute) {
    sv_str value;
    return host->attribute(exchange, attribute, strlen(attribute), &value) == SV_OK;
}

/* The first and the last of those that are told of requests: at the end the last one comes first. */
static sv_status on_request_first(void *module, const sv_event *event) {
    (void)module;
    if (event->kind == SV_EVENT_REQUEST_DESTROYED) {
        __atomic_add_fetch(&out_of_order, !has(event->exchange, "end"), __ATOMIC_SEQ_CST);
        return SV_OK;
    }
    return host->set_attribute(event->exchange, SV_LIT("begin"), SV_LIT("1"));
}

static sv_status on_request_last(void *module, const sv_event *event) {
    (void)module;
    if (event->kind == SV_EVENT_REQUEST_DESTROYED) {
        return host->set_attribute(event->exchange, SV_LIT("end"), SV_LIT("1"));
    }
    __atomic_add_fetch(&out_of_order, !has(event->exchange, "begin"), __ATOMIC_SEQ_CST);
    return SV_OK;
}

/* Refuses a request, after it has tried to answer it. */
static sv_status refuse(sv_exchange *x) {
    const sv_response response = {.struct_size = sizeof response, .status = 200};
    const sv_status answers[] = {
        host->respond(x, &response), host->set_status(x, 299), host->set_header(x, SV_HEADER_SET, SV_LIT("x"), SV_LIT("y")),
        host->write(x, SV_LIT("z"), NULL), host->flush(x), host->send_error(x, 403, SV_LIT("")),
        host->redirect(x, 0, SV_LIT("/")), host->dispatch(x, SV_FORWARD, SV_LIT("/text")), host->detach(x, NULL, NULL),
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (answers[i] != SV_E_STATE) {
            return SV_OK;
        }
    }
    host->fail(x, SV_LIT("door"), SV_LIT("it is shut"));
    return SV_E_FAILED;
}

static sv_status on_request(void *module, const sv_event *event) {
    (void)module;
    if (event->kind == SV_EVENT_REQUEST_INITIALIZED && is_param(event->exchange, "refuse", "yes")) {
        return refuse(event->exchange);
    }
    if (event->kind == SV_EVENT_REQUEST_INITIALIZED && host->request(event->exchange) != NULL) {
        __atomic_add_fetch(&initialized, 1, __ATOMIC_SEQ_CST);
    } else {
        __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
    }
    return SV_OK;
}

static sv_status on_session(void *module, const sv_event *event) {
    sv_str value;
    (void)module;
    if (event->kind == SV_EVENT_SESSION_CREATED) {
        __atomic_add_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    } else if (event->kind == SV_EVENT_SESSION_DESTROYED) {
        /* Its attributes may still be read. */
        if (host->session_attribute(event->session, SV_LIT("a"), &value) == SV_OK && value.len == 1 && *value.ptr == '2') {
            __atomic_add_fetch(&sessions, 100, __ATOMIC_SEQ_CST);
        }
    } else if (event->kind == SV_EVENT_SESSION_ATTRIBUTE) {
        __atomic_add_fetch(&attributes, event->old_value.ptr == NULL ? 1 : 100, __ATOMIC_SEQ_CST);
    }
    return SV_OK;
}

static const sv_listener of_requests = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_REQUEST_INITIALIZED | SV_EVENT_REQUEST_DESTROYED, .on_event = on_request};
static const sv_listener of_sessions = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_SESSION_CREATED | SV_EVENT_SESSION_DESTROYED | SV_EVENT_SESSION_ATTRIBUTE, .on_event = on_session};
static const sv_listener first = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_REQUEST_INITIALIZED | SV_EVENT_REQUEST_DESTROYED, .on_event = on_request_first};
static const sv_listener last = {.struct_size = sizeof(sv_listener),
    .kinds = SV_EVENT_REQUEST_INITIALIZED | SV_EVENT_REQUEST_DESTROYED, .on_event = on_request_last};
static const sv_listener *const listeners[] = {&first, &of_requests, &of_sessions, &last};

static const sv_str all[] = {SV_STR("/*")};
static const sv_str up[] = {SV_STR("/up/*")};
static const sv_filter trace = {.struct_size = sizeof(sv_filter), .flags = SV_NONBLOCKING, .name = SV_STR("trace"), .patterns = all,
    .pattern_count = 1, .order = 10, .create = create, .on_request = trace_request, .on_response = trace_response, .on_end = trace_end};
static const sv_filter upper = {.struct_size = sizeof(sv_filter), .flags = SV_NONBLOCKING, .name = SV_STR("upper"),
    .dispatches = SV_DISPATCH_REQUEST | SV_DISPATCH_FORWARD | SV_DISPATCH_INCLUDE, .patterns = up, .pattern_count = 1, .order = 20,
    .on_body = upper_body};
static const sv_filter *const filters[] = {&upper, &trace};

static const sv_str text_patterns[] = {SV_STR("/text"), SV_STR("/inner"), SV_STR("/up/text"), SV_STR("/up/inner")};
static const sv_str counts_patterns[] = {SV_STR("/counts")};
static const sv_servlet text_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("text"),
    .patterns = text_patterns, .pattern_count = 4, .service = text};
static const sv_servlet counts_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("counts"),
    .methods = SV_GET, .patterns = counts_patterns, .pattern_count = 1, .service = counts};
static const sv_str again_patterns[] = {SV_STR("/again"), SV_STR("/up/again")};
static const sv_servlet again_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("again"),
    .patterns = again_patterns, .pattern_count = 2, .service = again};
static const sv_servlet *const servlets[] = {&text_servlet, &counts_servlet, &again_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("filters"), .init = init, .servlets = servlets, .servlet_count = 3,
    .filters = filters, .filter_count = 2, .listeners = listeners, .listener_count = 4};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
