/* security.c - who asks, and what they may do (Servlet 13).
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I<folder of servlet.h> -o security.so security.c
 *
 *   POST /login with name and password as a form; GET /; POST /logout
 *
 * Names, passwords and roles are the server's business (its realm); a servlet only asks.
 */
#include "servlet.h"

static const sv_host *host;

/* GET /: by whatever way somebody has logged in. */
static sv_status whoami(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str name, method;
    sv_status status = host->principal(x, &name, &method);
    if (status == SV_NONE) return host->write(x, SV_LIT("nobody"), NULL);
    if (status == SV_OK) status = host->write(x, name.ptr, name.len, NULL);
    if (status == SV_OK) status = host->write(x, SV_LIT(" by "), NULL);
    if (status == SV_OK) status = host->write(x, method.ptr, method.len, NULL);
    if (status != SV_OK) return status;
    status = host->in_role(x, SV_LIT("admin")); /* SV_OK or SV_NONE; anything below is an error, and not a yes */
    if (status == SV_OK) return host->write(x, SV_LIT(", who may do anything"), NULL);
    return status == SV_NONE ? SV_OK : status;
}

/* POST /login: checks a form's name and password against the realm. */
static sv_status login(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    sv_str name, password;
    sv_status status = host->parameter(x, SV_LIT("name"), 0, &name);
    if (status == SV_OK) status = host->parameter(x, SV_LIT("password"), 0, &password);
    if (status == SV_NONE) return host->send_error(x, 400, SV_LIT("a name and a password are needed"));
    if (status != SV_OK) return status;
    status = host->login(x, name.ptr, name.len, password.ptr, password.len);
    switch (status) {
    case SV_OK: return host->write(x, SV_LIT("welcome"), NULL);
    case SV_NONE: return host->send_error(x, 403, SV_LIT("wrong name or password"));
    case SV_E_UNSUPPORTED: return host->send_error(x, 501, SV_LIT("this server has no realm"));
    default: return status;
    }
}

static sv_status logout(void *servlet, sv_exchange *x, void **task)
{
    (void)servlet;
    (void)task;
    const sv_status status = host->logout(x);
    if (status == SV_E_UNSUPPORTED) return host->send_error(x, 501, SV_LIT("this server has no realm"));
    return status == SV_OK ? host->write(x, SV_LIT("goodbye"), NULL) : status;
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
SERVLET(whoami, "", SV_GET);
SERVLET(login, "/login", SV_POST);
SERVLET(logout, "/logout", SV_POST);

static const sv_servlet *const servlets[] = {&whoami_servlet, &login_servlet, &logout_servlet};
static const sv_module module = {
    .magic = SV_MAGIC,
    .struct_size = sizeof(sv_module),
    .abi_major = SV_ABI_MAJOR,
    .abi_minor = SV_ABI_MINOR,
    .name = SV_STR("security"),
    .version = SV_STR("1.0.0"),
    .init = init,
    .servlets = servlets,
    .servlet_count = 3,
};

const sv_module *servlet_module_v1(void)
{
    return &module;
}
