// The servlets of @NAME@. Save this file, and Serval builds it; the new version takes over while requests flow.
// servlet.h is the manual; it lies in @SDK@/abi/include.
#include "servlet.h"

#include <exception>
#include <string>
#include <string_view>

namespace {

// All that a library may call. The server hands it over once, before any servlet is called.
const sv_host *host;

std::string_view view(sv_str text)
{
    return {text.ptr, text.len};
}

// Whatever comes from a client goes into HTML through this function.
std::string escape(std::string_view text)
{
    std::string out;
    for (char c : text) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default: out += c;
        }
    }
    return out;
}

// ---------------------------------------------------------------------------------------------------- /greet
struct Greet {
    std::string greeting;
};

// The init parameters: those of WEB-INF/web.toml come before those of the declaration below.
sv_status greet_create(sv_context *, void *, const sv_config *config, void **servlet, sv_str *error) noexcept
try {
    for (size_t i = 0; i < config->init_count; i++) {
        if (view(config->init[i].name) == "greeting") {
            *servlet = new Greet{std::string(view(config->init[i].value))};
            return SV_OK;
        }
    }
    *error = SV_STR("there is no init parameter `greeting`");
    return SV_E_FAILED;
} catch (...) {
    return SV_E_NOMEM;
}

void greet_destroy(void *servlet) noexcept
{
    delete static_cast<Greet *>(servlet);
}

// Answers greet?name=Ada, and the form of index.html, which sends the same as a body. Called on many threads at once.
// No exception may leave it.
sv_status greet_service(void *servlet, sv_exchange *exchange, void **) noexcept
try {
    const Greet &self = *static_cast<const Greet *>(servlet);
    sv_str name;
    const sv_status found = host->parameter(exchange, SV_LIT("name"), 0, &name);
    if (found < 0)
        return found; // returned as it is, the server answers 400, 408 or 413, as fits
    if (found == SV_NONE || name.len == 0)
        name = SV_STR("World");

    std::string page = R"(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>@NAME@</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<main>
)";
    page += "<h1>" + escape(self.greeting) + ", " + escape(view(name)) + "!</h1>\n";
    page += "<p><a href=\"./\">Back</a></p>\n</main>\n</html>\n";
    const sv_status typed = host->set_content_type(exchange, SV_LIT("text/html; charset=utf-8"));
    return typed == SV_OK ? host->write(exchange, page.data(), page.size(), nullptr) : typed;
} catch (const std::exception &error) {
    const std::string_view what = error.what();
    host->fail(exchange, SV_LIT("exception"), what.data(), what.size());
    return SV_E_PANIC;
} catch (...) {
    return SV_E_PANIC;
}

// ---------------------------------------------------------------------------------------------------- what is in here
// Constant data. What is not set is 0.
constexpr sv_str greet_patterns[] = {SV_STR("/greet")};
constexpr sv_pair greet_init[] = {{SV_STR("greeting"), SV_STR("Hello")}};
constexpr sv_servlet greet = [] {
    sv_servlet it{};
    it.struct_size = sizeof it;
    it.methods = SV_GET | SV_POST; // the server answers HEAD, OPTIONS, and 405 to all others
    it.name = SV_STR("greet");
    it.patterns = greet_patterns;
    it.pattern_count = 1;
    it.init = greet_init;
    it.init_count = 1;
    it.create = greet_create;
    it.destroy = greet_destroy;
    it.service = greet_service;
    return it;
}();

sv_status init(const sv_host *table, sv_context *, void **, sv_str *) noexcept
{
    host = table;
    return SV_OK;
}

constexpr const sv_servlet *servlets[] = {&greet};
constexpr sv_module module_of_this_library = [] {
    sv_module it{};
    it.magic = SV_MAGIC;
    it.struct_size = sizeof it;
    it.abi_major = SV_ABI_MAJOR;
    it.abi_minor = SV_ABI_MINOR;
    it.name = SV_STR("@PACKAGE@");
    it.version = SV_STR("0.1.0");
    it.built_with = SV_STR("C++17");
    it.init = init;
    it.servlets = servlets;
    it.servlet_count = sizeof servlets / sizeof servlets[0];
    return it;
}();

} // namespace

// The one export.
const sv_module *servlet_module_v1()
{
    return &module_of_this_library;
}
