/* A servlet that fails in every way, one that makes the pages for it, and a filter around both. */
#include <servlet.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const sv_host *host;
static int threads; /* of ours that run */

static sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *error) {
    (void)context;
    (void)error;
    *module = NULL;
    host = table;
    return SV_OK;
}

static void destroy(void *module) {
    (void)module;
    while (__atomic_load_n(&threads, __ATOMIC_SEQ_CST) > 0) {
        usleep(1000);
    }
}

/* The query of the first request: parameters are merged, and a page has some of its own. */
static int is_param(sv_exchange *exchange, const char *name, const char *value) {
    sv_str found;
    return host->parameter(exchange, name, strlen(name), 0, &found) == SV_OK && found.len == strlen(value) &&
           memcmp(found.ptr, value, found.len) == 0;
}

/* ------------------------------------------------------------------ wrong: what goes wrong */
/* Of a detached exchange: waits for its end, which its time-out is. */
static void *complete(void *exchange) {
    while (host->cancelled(exchange) == 0) {
        usleep(1000);
    }
    host->complete(exchange, SV_E_TIMEOUT);
    __atomic_sub_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static sv_status detach(sv_exchange *exchange) {
    pthread_t thread;
    sv_status status = host->set_timeout(exchange, 50);
    if (status == SV_OK) {
        status = host->detach(exchange, NULL, NULL);
    }
    if (status != SV_OK) {
        return status;
    }
    __atomic_add_fetch(&threads, 1, __ATOMIC_SEQ_CST);
    if (pthread_create(&thread, NULL, complete, exchange) != 0) {
        return SV_E_FAILED;
    }
    pthread_detach(thread);
    return SV_PENDING;
}

static sv_status wrong(void *servlet, sv_exchange *exchange, void **task) {
    static int a_task;
    sv_str status;
    (void)servlet;
    if (host->parameter(exchange, SV_LIT("status"), 0, &status) == SV_OK && status.len == 3) {
        uint32_t number = (uint32_t)((status.ptr[0] - '0') * 100 + (status.ptr[1] - '0') * 10 + status.ptr[2] - '0');
        host->set_header(exchange, SV_HEADER_SET, SV_LIT("x-keep"), SV_LIT("yes"));
        host->set_content_type(exchange, SV_LIT("application/lost"));
        host->set_charset(exchange, SV_LIT("lost"));
        host->set_content_length(exchange, 3);
        host->write(exchange, SV_LIT("lo"), NULL); /* less than its length: that would commit it */
        return host->send_error(exchange, number, SV_LIT("no <way>"));
    }
    if (is_param(exchange, "as", "kind")) {
        host->fail(exchange, SV_LIT("io/not-found/deep"), SV_LIT("the disk is lost"));
        return SV_E_FAILED;
    }
    if (is_param(exchange, "as", "long") || is_param(exchange, "as", "words")) {
        sv_str body;
        sv_status is_long = host->read_all(exchange, 4, &body);
        if (is_param(exchange, "as", "words")) {
            host->fail(exchange, SV_LIT("shop/too-big"), SV_LIT("the cart is full"));
        }
        return is_long;
    }
    if (is_param(exchange, "as", "own")) {
        host->set_status(exchange, 409);
        return host->write(exchange, SV_LIT("own"), NULL);
    }
    if (is_param(exchange, "as", "late")) {
        host->write(exchange, SV_LIT("partial "), NULL);
        host->flush(exchange);
        return SV_E_FAILED;
    }
    if (is_param(exchange, "as", "task") || is_param(exchange, "as", "slow")) {
        *task = &a_task;
        return SV_PENDING;
    }
    if (is_param(exchange, "as", "detached")) {
        return detach(exchange);
    }
    if (is_param(exchange, "as", "unavailable")) {
        host->unavailable(exchange, 3600, SV_LIT("counting"));
        return SV_E_FAILED;
    }
    if (is_param(exchange, "as", "briefly")) {
        host->unavailable(exchange, 1, SV_LIT("counting"));
        return SV_E_FAILED;
    }
    if (is_param(exchange, "as", "forward")) {
        return host->dispatch(exchange, SV_FORWARD, SV_LIT("/wrong/there?status=409"));
    }
    if (is_param(exchange, "as", "include")) {
        host->write(exchange, SV_LIT("<"), NULL);
        host->dispatch(exchange, SV_INCLUDE, SV_LIT("/wrong/there?status=409"));
        return host->write(exchange, SV_LIT(">"), NULL);
    }
    return host->write(exchange, SV_LIT("fine"), NULL);
}

static sv_status poll(void *task, sv_exchange *exchange) {
    (void)task;
    if (is_param(exchange, "as", "task")) {
        host->fail(exchange, SV_LIT("io"), SV_LIT("the task is lost"));
        return SV_E_FAILED;
    }
    host->set_timeout(exchange, 50);
    return SV_PENDING;
}

static void drop(void *task) {
    (void)task;
}

/* ------------------------------------------------------------------ page: what it is told */
static void put(sv_exchange *exchange, const char *name) {
    char whole[64] = "servlet.";
    sv_str value;
    strcat(whole, name);
    if (host->attribute(exchange, whole, strlen(whole), &value) == SV_OK) {
        host->write(exchange, SV_LIT(" "), NULL);
        host->write(exchange, name, strlen(name), NULL);
        host->write(exchange, SV_LIT("="), NULL);
        host->write(exchange, value.ptr, value.len, NULL);
    }
}

static sv_status page(void *servlet, sv_exchange *exchange, void **task) {
    const sv_request *request = host->request(exchange);
    char line[100];
    (void)servlet;
    (void)task;
    if (is_param(exchange, "do", "fail")) {
        host->fail(exchange, SV_LIT("io"), SV_LIT("the page is lost"));
        return SV_E_FAILED;
    }
    if (is_param(exchange, "do", "error")) {
        return host->send_error(exchange, 403, SV_LIT("not for you"));
    }
    if (is_param(exchange, "do", "respond")) {
        const sv_response response = {.struct_size = sizeof response, .status = 200, .body = "a whole page", .body_len = 12};
        return host->respond(exchange, &response);
    }
    snprintf(line, sizeof line, "%u %.*s", request->dispatch, (int)request->method_name.len, request->method_name.ptr);
    host->write(exchange, line, strlen(line), NULL);
    put(exchange, "error.status_code");
    put(exchange, "error.message");
    put(exchange, "error.kind");
    put(exchange, "error.request_uri");
    put(exchange, "error.query_string");
    put(exchange, "error.method");
    put(exchange, "error.servlet_name");
    put(exchange, "forward.request_uri");
    return SV_OK;
}

/* ------------------------------------------------------------------ guard: leaves its dispatch in a header, or fails */
static sv_status guard_request(void *filter, sv_exchange *exchange, void **state) {
    const uint32_t dispatch = host->request(exchange)->dispatch;
    char line[16];
    (void)filter;
    (void)state;
    snprintf(line, sizeof line, "%u", dispatch);
    host->set_header(exchange, SV_HEADER_ADD, SV_LIT("x-trail"), line, strlen(line));
    if (dispatch == SV_DISPATCH_REQUEST && is_param(exchange, "fail", "request")) {
        host->fail(exchange, SV_LIT("io/guard"), SV_LIT("the guard is lost"));
        return SV_E_FAILED;
    }
    return dispatch == SV_DISPATCH_ERROR && is_param(exchange, "fail", "page") ? SV_E_FAILED : SV_NEXT;
}

static sv_status guard_response(void *filter, sv_exchange *exchange, void *state) {
    (void)filter;
    (void)state;
    const int is_page = host->request(exchange)->dispatch == SV_DISPATCH_ERROR;
    return !is_page && is_param(exchange, "fail", "response") ? SV_E_FAILED : SV_OK;
}

static const sv_str guarded[] = {SV_STR("/wrong/guarded"), SV_STR("/page")};
static const sv_filter guard = {.struct_size = sizeof(sv_filter), .flags = SV_NONBLOCKING, .name = SV_STR("guard"),
    .dispatches = SV_DISPATCH_REQUEST | SV_DISPATCH_ERROR, .patterns = guarded, .pattern_count = 2,
    .on_request = guard_request, .on_response = guard_response};
static const sv_filter *const filters[] = {&guard};

static const sv_str wrong_patterns[] = {SV_STR("/wrong/*")}, later_patterns[] = {SV_STR("/later")};
static const sv_str page_patterns[] = {SV_STR("/page")}, quick_patterns[] = {SV_STR("/quick")};
static const sv_servlet wrong_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("wrong"),
    .methods = SV_GET | SV_POST, .patterns = wrong_patterns, .pattern_count = 1, .service = wrong, .poll = poll, .drop = drop};
static const sv_servlet later_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("later"),
    .patterns = later_patterns, .pattern_count = 1, .service = wrong};
/* It may block, so it must not run where the servlet that failed has run. */
static const sv_servlet page_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_BLOCKING, .name = SV_STR("page"),
    .methods = SV_GET, .patterns = page_patterns, .pattern_count = 1, .service = page};
static const sv_servlet quick_servlet = {.struct_size = sizeof(sv_servlet), .flags = SV_NONBLOCKING, .name = SV_STR("quick"),
    .patterns = quick_patterns, .pattern_count = 1, .service = page};
static const sv_servlet *const servlets[] = {&wrong_servlet, &later_servlet, &page_servlet, &quick_servlet};
static const sv_module module = {.magic = SV_MAGIC, .struct_size = sizeof(sv_module), .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR, .name = SV_STR("errors"), .init = init, .destroy = destroy, .servlets = servlets,
    .servlet_count = 4, .filters = filters, .filter_count = 1};

SV_EXPORT const sv_module *servlet_module_v1(void) {
    return &module;
}
