// servlet.hpp - servlets in C++17: a thin face over servlet.h, in one header.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
//
//   #include <servlet.hpp>
//
//   struct Hello {
//       void service(servlet::Exchange &x) {
//           std::string name(x.request.parameter("name").value_or("World"));
//           x.response.text("Hello, " + name + "!");
//       }
//   };
//
//   SERVLET_MODULE("hello", "1.0", servlet::servlet_of<Hello>("hello", {"/hello/*"}, SV_GET))
//
//   c++ -std=c++17 -O2 -shared -fPIC -fvisibility=hidden -fno-gnu-unique -I<folder of this file> -o hello.so hello.cpp
//
// The manual of what each function does is servlet.h; functions have the same names here. What is different:
//   Text      goes in and comes out as std::string_view; what may be absent is a std::optional. What comes out lives as
//             servlet.h 4 says: most often until service returns.
//   Errors    are exceptions: `error` holds the status that the server gave. Let it pass, and the client gets what fits
//             (413 for a body that is too long). `throw servlet::error(404, "no such item")` is an error page, and
//             `throw servlet::error(SV_E_FAILED, "db/locked", "text")` one by kind. std::bad_alloc is SV_E_NOMEM. Any
//             other exception is a fault of the library: it is reported, and the client gets 500. None leaves the
//             library.
//   Objects   a servlet, a filter and the module's state are objects of classes of yours: made by create or init,
//             deleted by destroy. A constructor takes (const Config &), the state's (const Context &), or nothing. What
//             it throws refuses the generation, with its text in the log.
//   Views     Exchange, Request, Response, Session and Context are pointers in disguise: copy them freely, but they end
//             when their handle does. Waker and Detached own what they stand for.
//   Tasks     service may return a std::unique_ptr of a class derived from Task. In its poll a function that would have
//             to wait throws would_block; let it pass, and poll is called again, from its beginning, when it is worth
//             trying.
//   Versions  functions of later minors: ask SV_HAS(servlet::host, sv_host, name) first, as in C.
//
// No two generations share a variable of this header, whatever the compiler's options are. For variables of your own
// (static ones in inline functions and templates, inline ones) that takes -fvisibility=hidden. The standard library has
// such variables too, as in std::to_string; they take -fno-gnu-unique: with one of them the system never unloads a
// library.
#ifndef SERVLET_HPP
#define SERVLET_HPP 1

#include "servlet.h"

#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace servlet {

using std::string_view;
using text_or_none = std::optional<string_view>;

/// The server's table, for what is not here. Set before anything of the library is constructed by the server.
__attribute__((visibility("hidden"))) inline const sv_host *host = nullptr;

// ------------------------------------------------------------------------------------------------ errors

/// `status` is an answer for the client (400 to 599), or an sv_status below 0. `kind` is for the latter: see fail in
/// servlet.h.
class error : public std::runtime_error {
  public:
    error(int status, string_view text) : error(status, "", text) {}
    error(int status, string_view kind, string_view text)
        : std::runtime_error(std::string(text)), status(status), kind(kind) {}
    const int status;
    const std::string kind;
};

/// Thrown only in poll, and not to be caught there.
struct would_block {};

// ------------------------------------------------------------------------------------------------ text

inline string_view view(sv_str text) { return text.ptr ? string_view(text.ptr, text.len) : string_view(); }
inline text_or_none maybe(sv_str text) { return text.ptr ? text_or_none(view(text)) : std::nullopt; }
/// Never absent: an empty text is not a removed one.
inline sv_str raw(string_view text) { return {text.data() ? text.data() : "", text.size()}; }
inline sv_pair raw(string_view name, string_view value) { return {raw(name), raw(value)}; }

/// Names and values, for `for (auto [name, value] : request.headers())`.
class Pairs {
  public:
    Pairs(const sv_pair *first, size_t count) : first(first), count(count) {}
    struct iterator {
        const sv_pair *at;
        std::pair<string_view, string_view> operator*() const { return {view(at->name), view(at->value)}; }
        iterator &operator++() { return ++at, *this; }
        bool operator!=(iterator other) const { return at != other.at; }
    };
    iterator begin() const { return {first}; }
    iterator end() const { return {count ? first + count : first}; }
    size_t size() const { return count; }
    std::pair<string_view, string_view> operator[](size_t index) const { return *iterator{first + index}; }

  private:
    const sv_pair *first;
    size_t count;
};

// ------------------------------------------------------------------------------------------------ the border
// What the classes below are made of; a library does not need it.
namespace border __attribute__((visibility("hidden"))) {

/// Throws what is wrong, with the server's words.
[[noreturn]] inline void raise(sv_status status, sv_exchange *x) {
    if (status == SV_WOULD_BLOCK) throw would_block();
    sv_str text = {nullptr, 0};
    if (x) host->error_text(x, &text);
    throw error(status < 0 ? status : SV_E_INTERNAL, text.ptr ? view(text) : "an error of the server");
}
inline void check(sv_status status, sv_exchange *x = nullptr) {
    if (status != SV_OK) raise(status, x);
}
/// False: the status is `negative`, such as SV_NONE.
inline bool check_or(sv_status status, sv_status negative, sv_exchange *x = nullptr) {
    if (status == negative) return false;
    return check(status, x), true;
}
inline bool truth(int32_t answer, sv_exchange *x) {
    if (answer < 0) raise(answer, x);
    return answer != 0;
}
inline text_or_none found(sv_status status, sv_str value, sv_exchange *x = nullptr) {
    return check_or(status, SV_NONE, x) ? text_or_none(view(value)) : std::nullopt;
}

/// A text by its name; the functions that look up one have one shape, and so have those that list all and those that
/// set one.
template <class Handle>
text_or_none named(sv_status (*function)(Handle *, const char *, size_t, sv_str *), Handle *handle, string_view name,
                   sv_exchange *x = nullptr) {
    sv_str value;
    const sv_status status = function(handle, raw(name).ptr, name.size(), &value);
    return found(status, value, x);
}
template <class Handle>
Pairs all(sv_status (*function)(Handle *, const sv_pair **, size_t *), Handle *handle, sv_exchange *x = nullptr) {
    const sv_pair *first;
    size_t count;
    return check(function(handle, &first, &count), x), Pairs(first, count);
}
template <class Handle>
void set(sv_status (*function)(Handle *, const char *, size_t, const char *, size_t), Handle *handle, string_view name,
         sv_str value, sv_exchange *x = nullptr) {
    check(function(handle, raw(name).ptr, name.size(), value.ptr, value.len), x);
}
constexpr sv_str absent = {nullptr, 0};

inline void report(string_view text, sv_context *context = nullptr) noexcept {
    host->report_panic(context, text.data(), text.size(), nullptr, 0, 0);
}

/// Each call of the server runs in here: exceptions end here, and become what `tell` makes of them.
template <class Work, class Tell> sv_status guarded(Work &&work, Tell &&tell) noexcept {
    try {
        try {
            return work();
        } catch (const would_block &) {
            return SV_PENDING;
        } catch (const error &e) {
            return tell(e.status, e.kind, e.what(), false);
        } catch (const std::bad_alloc &) {
            return SV_E_NOMEM;
        } catch (const std::exception &e) {
            return tell(SV_E_FAILED, "runtime", e.what(), true);
        } catch (...) {
            return tell(SV_E_FAILED, "runtime", "an exception of an unknown type", true);
        }
    } catch (...) { // while it was told of
        return SV_E_NOMEM;
    }
}
/// In a call for an exchange the server answers the client.
template <class Work> sv_status answering(sv_exchange *x, Work &&work) noexcept {
    return guarded(work, [x](int status, string_view kind, string_view text, bool is_fault) -> sv_status {
        if (is_fault) report(text, host->context(x));
        if (status >= 400) {
            return host->send_error(x, static_cast<uint32_t>(status), text.data(), text.size());
        }
        if (!kind.empty()) host->fail(x, kind.data(), kind.size(), text.data(), text.size());
        return status < 0 ? status : SV_E_FAILED;
    });
}
/// In init and create the text goes to `*place`, and lives as long as the library.
template <class Work> sv_status starting(sv_str *place, Work &&work) noexcept {
    return guarded(work, [place](int status, string_view, string_view text, bool) -> sv_status {
        static std::string last; // never two at once
        last = text;
        *place = raw(last);
        return status < 0 ? status : SV_E_FAILED;
    });
}
/// Where there is nobody to tell but the log.
template <class Work> sv_status quietly(Work &&work) noexcept {
    return guarded(work, [](int status, string_view, string_view text, bool) -> sv_status {
        report(text);
        return status < 0 ? status : SV_E_FAILED;
    });
}

template <class T> void deleted(void *object) noexcept { delete static_cast<T *>(object); }

} // namespace border

// ------------------------------------------------------------------------------------------------ context and session

/// Wakes the task of an exchange, on any thread and at any time. A copy is one more waker.
class Waker {
  public:
    explicit Waker(sv_waker *waker) : waker(waker) {}
    Waker(const Waker &other) : waker(other.waker ? host->waker_clone(other.waker) : nullptr) {}
    Waker(Waker &&other) noexcept : waker(other.release()) {}
    Waker &operator=(Waker other) noexcept { return std::swap(waker, other.waker), *this; }
    ~Waker() {
        if (waker) host->waker_drop(waker);
    }
    void wake() const {
        if (waker) host->waker_wake(waker, 0);
    }
    sv_waker *release() { return std::exchange(waker, nullptr); }

  private:
    sv_waker *waker;
};

/// A webapp's generation. On any thread.
class Context {
  public:
    explicit Context(sv_context *handle) : handle(handle) {}
    string_view path() const {
        sv_str out;
        return border::check(host->context_path(handle, &out)), view(out);
    }
    text_or_none parameter(string_view name) const { return border::named(host->context_parameter, handle, name); }
    Pairs parameters() const { return border::all(host->context_parameters, handle); }
    /// SV_PATH_*
    string_view folder(int32_t which) const {
        sv_str out;
        return border::check(host->context_folder(handle, which, &out)), view(out);
    }
    text_or_none mime_type(string_view file_name) const {
        return border::named(host->context_mime_type, handle, file_name);
    }
    text_or_none resource(string_view name) const { return border::named(host->context_resource, handle, name); }
    /// A copy: other threads may change it.
    std::optional<std::string> attribute(string_view name) const {
        std::string value;
        for (size_t len = 0;; value.resize(len)) {
            const auto status =
                host->context_attribute(handle, raw(name).ptr, name.size(), value.data(), value.size(), &len);
            if (!border::check_or(status, SV_NONE)) return std::nullopt;
            if (len <= value.size()) return value.resize(len), value;
        }
    }
    void set_attribute(string_view name, string_view value) const {
        border::set(host->context_set_attribute, handle, name, raw(value));
    }
    void remove_attribute(string_view name) const {
        border::set(host->context_set_attribute, handle, name, border::absent);
    }
    uint64_t generation() const { return host->context_generation(handle); }
    /// Runs job() once, on a thread of the context's pool. The job may be an object that can only be moved.
    template <class Job> void post(Job job) const {
        auto owned = std::make_unique<Job>(std::move(job));
        const auto run = [](void *argument) {
            std::unique_ptr<Job> mine(static_cast<Job *>(argument));
            border::quietly([&] { return (*mine)(), SV_OK; });
        };
        border::check(host->context_post(handle, run, owned.get()));
        (void)owned.release();
    }
    /// Wakes once, after that time.
    void timer(uint64_t milliseconds, Waker waker) const {
        border::check(host->context_timer(handle, milliseconds, waker.release()));
    }
    bool log_enabled(int32_t level) const { return host->log_enabled(handle, level) == 1; }
    /// SV_LOG_*. Says nothing of its own failure.
    void log(int32_t level, string_view text) const {
        host->log_message(handle, nullptr, level, text.data(), text.size());
    }
    sv_context *get() const { return handle; }

  private:
    sv_context *handle;
};

class Session {
  public:
    explicit Session(sv_session *handle) : handle(handle) {}
    text_or_none attribute(string_view name) const { return border::named(host->session_attribute, handle, name); }
    Pairs attributes() const { return border::all(host->session_attributes, handle); }
    void set(string_view name, string_view value) const {
        border::set(host->session_set_attribute, handle, name, raw(value));
    }
    void remove(string_view name) const { border::set(host->session_set_attribute, handle, name, border::absent); }
    /// Returns the new id. After a login, so that nobody who knew the old one is logged in too.
    string_view change_id() const {
        sv_str id;
        return border::check(host->session_change_id(handle, &id)), view(id);
    }
    void max_inactive(int64_t seconds) const { border::check(host->session_set_max_inactive(handle, seconds)); }
    void invalidate() const { border::check(host->session_invalidate(handle)); }
    sv_session *get() const { return handle; }

  private:
    sv_session *handle;
};

// ------------------------------------------------------------------------------------------------ the request

class Request {
  public:
    explicit Request(sv_exchange *x) : x(x) {}
    /// All facts of the head; those that are asked for most are below.
    const sv_request &head() const {
        if (!fetched && !(fetched = host->request(x))) border::raise(SV_E_STALE, x);
        return *fetched;
    }
    uint32_t method() const { return head().method; }
    string_view uri() const { return view(head().request_uri); }
    text_or_none query() const { return maybe(head().query); }
    text_or_none path_info() const { return maybe(head().path_info); }
    text_or_none content_type() const { return maybe(head().content_type); }
    Pairs headers() const { return {head().headers, head().header_count}; }
    /// nullptr: not TLS.
    const sv_tls *tls() const { return host->tls(x); }

    text_or_none header(string_view name) const { return border::named(host->header, x, name, x); }
    text_or_none parameter(string_view name, uint32_t nth = 0) const {
        sv_str value;
        const sv_status status = host->parameter(x, raw(name).ptr, name.size(), nth, &value);
        return border::found(status, value, x);
    }
    Pairs parameters() const { return border::all(host->parameters, x, x); }
    text_or_none path_parameter(string_view name) const { return border::named(host->path_parameter, x, name, x); }
    text_or_none cookie(string_view name) const { return border::named(host->cookie, x, name, x); }
    Pairs cookies() const { return border::all(host->cookies, x, x); }

    /// None: the body is of another type than multipart/form-data.
    std::optional<size_t> part_count() const {
        size_t count;
        if (!border::check_or(host->part_count(x, &count), SV_NONE, x)) return std::nullopt;
        return count;
    }
    const sv_part &part(size_t index) const {
        const sv_part *out;
        return border::check(host->part(x, index, &out), x), *out;
    }

    text_or_none attribute(string_view name) const { return border::named(host->attribute, x, name, x); }
    Pairs attributes() const { return border::all(host->attributes, x, x); }
    void set_attribute(string_view name, string_view value) const {
        border::set(host->set_attribute, x, name, raw(value), x);
    }
    void remove_attribute(string_view name) const { border::set(host->set_attribute, x, name, border::absent, x); }

    struct Principal {
        string_view name, method;
    };
    std::optional<Principal> principal() const {
        sv_str name, method;
        if (!border::check_or(host->principal(x, &name, &method), SV_NONE, x)) return std::nullopt;
        return Principal{view(name), view(method)};
    }
    bool in_role(string_view role) const {
        return border::check_or(host->in_role(x, raw(role).ptr, role.size()), SV_NONE, x);
    }
    /// False: wrong name or password.
    bool login(string_view name, string_view password) const {
        const sv_status status = host->login(x, raw(name).ptr, name.size(), raw(password).ptr, password.size());
        return border::check_or(status, SV_NONE, x);
    }
    void logout() const { border::check(host->logout(x), x); }

    /// Returns how many bytes there are in the buffer now; 0: the body is at its end.
    size_t read(char *buffer, size_t capacity) const {
        size_t len;
        return border::check_or(host->read(x, buffer, capacity, &len), SV_END, x) ? len : 0;
    }
    /// Returns what has come, until the next read; none: the body is at its end.
    text_or_none read_chunk() const {
        sv_str chunk;
        return border::check_or(host->read_chunk(x, &chunk), SV_END, x) ? text_or_none(view(chunk)) : std::nullopt;
    }
    string_view read_all(size_t bytes_max) const {
        sv_str body;
        return border::check(host->read_all(x, bytes_max, &body), x), view(body);
    }
    /// After the end of the body.
    Pairs trailers() const { return border::all(host->request_trailers, x, x); }

  private:
    sv_exchange *x;
    mutable const sv_request *fetched = nullptr;
};

// ------------------------------------------------------------------------------------------------ the response

/// What is not set is not sent.
struct Cookie {
    string_view name, value;
    text_or_none path, domain;
    std::optional<int64_t> max_age; // seconds; 0 deletes it
    uint32_t flags = 0;             // SV_COOKIE_SECURE, SV_COOKIE_HTTP_ONLY
    std::vector<sv_pair> attributes;
};

class Response {
  public:
    explicit Response(sv_exchange *x) : x(x) {}
    /// A whole answer in one call: text/plain in UTF-8, and respond for any other type. The body is taken over, not
    /// copied.
    void text(std::string body) const { respond(200, "text/plain; charset=utf-8", std::move(body)); }
    void respond(uint32_t status, string_view type, std::string body) const {
        const sv_pair header = raw("content-type", type);
        auto owned = std::make_unique<std::string>(std::move(body));
        sv_response answer{};
        answer.struct_size = sizeof answer;
        answer.status = status;
        answer.headers = &header;
        answer.header_count = 1;
        answer.body = owned->data();
        answer.body_len = owned->size();
        answer.body_kind = SV_BODY_OWNED;
        answer.release = border::deleted<std::string>;
        answer.release_arg = owned.get();
        border::check(host->respond(x, &answer), x);
        (void)owned.release();
    }
    void respond(const sv_response &answer) const { border::check(host->respond(x, &answer), x); }

    uint32_t status() const {
        uint32_t status;
        return border::check(host->response_status(x, &status), x), status;
    }
    void set_status(uint32_t status) const { border::check(host->set_status(x, status), x); }
    text_or_none header(string_view name, uint32_t nth = 0) const {
        sv_str value;
        const sv_status status = host->response_header(x, raw(name).ptr, name.size(), nth, &value);
        return border::found(status, value, x);
    }
    void set_header(string_view name, string_view value) const { header(SV_HEADER_SET, name, value); }
    void add_header(string_view name, string_view value) const { header(SV_HEADER_ADD, name, value); }
    void remove_header(string_view name) const { header(SV_HEADER_REMOVE, name, ""); }
    void set_content_type(string_view type) const {
        border::check(host->set_content_type(x, type.data(), type.size()), x);
    }
    void set_charset(string_view charset) const {
        border::check(host->set_charset(x, charset.data(), charset.size()), x);
    }
    void set_content_length(uint64_t bytes) const { border::check(host->set_content_length(x, bytes), x); }
    void set_buffer_size(size_t bytes) const { border::check(host->set_buffer_size(x, bytes), x); }
    void set_cookie(const Cookie &cookie) const {
        const auto given = [](text_or_none text) { return text ? raw(*text) : border::absent; };
        const uint32_t flags = cookie.flags | (cookie.max_age ? SV_COOKIE_MAX_AGE : 0);
        const sv_cookie c = {sizeof(sv_cookie),  flags,
                             raw(cookie.name),   raw(cookie.value),
                             given(cookie.path), given(cookie.domain),
                             cookie.max_age.value_or(0), cookie.attributes.data(), cookie.attributes.size()};
        border::check(host->set_cookie(x, &c), x);
    }
    void set_trailer(string_view name, string_view value) const {
        border::set(host->set_trailer, x, name, raw(value), x);
    }
    void informational(uint32_t status, std::initializer_list<sv_pair> headers) const {
        border::check(host->informational(x, status, headers.begin(), headers.size()), x);
    }

    /// Returns how much was taken: all of it, but in poll.
    size_t write(string_view bytes) const {
        size_t taken;
        return border::check(host->write(x, bytes.data(), bytes.size(), &taken), x), taken;
    }
    void write_owned(std::string bytes) const {
        auto owned = std::make_unique<std::string>(std::move(bytes));
        const auto release = border::deleted<std::string>;
        border::check(host->write_owned(x, owned->data(), owned->size(), release, owned.get()), x);
        (void)owned.release();
    }
    void flush() const { border::check(host->flush(x), x); }
    void reset() const { border::check(host->reset(x), x); }
    void reset_buffer() const { border::check(host->reset_buffer(x), x); }
    void send_error(uint32_t status, string_view text) const {
        border::check(host->send_error(x, status, text.data(), text.size()), x);
    }
    void redirect(string_view location, uint32_t status = 302) const {
        border::check(host->redirect(x, status, location.data(), location.size()), x);
    }
    bool committed() const { return border::truth(host->committed(x), x); }
    string_view encode_url(string_view url) const {
        sv_str out;
        return border::check(host->encode_url(x, url.data(), url.size(), &out), x), view(out);
    }

  private:
    void header(int32_t how, string_view name, string_view value) const {
        border::check(host->set_header(x, how, raw(name).ptr, name.size(), raw(value).ptr, value.size()), x);
    }
    sv_exchange *x;
};

// ------------------------------------------------------------------------------------------------ the exchange

class Detached;

/// One dispatch of an exchange to one servlet or filter.
class Exchange {
  public:
    explicit Exchange(sv_exchange *handle) : request(handle), response(handle), handle(handle) {}
    Request request;
    Response response;

    Context context() const { return Context(host->context(handle)); }
    /// None: there is none, and `create` is false.
    std::optional<Session> session(bool create = true) const {
        sv_session *out;
        if (!border::check_or(host->session(handle, create, &out), SV_NONE, handle)) return std::nullopt;
        return Session(out);
    }
    const sv_session_info &session_info() const {
        const sv_session_info *out;
        return border::check(host->session_info(handle, &out), handle), *out;
    }
    /// Memory that lives as long as the handle.
    void *alloc(size_t size, size_t align = alignof(std::max_align_t)) const {
        if (void *memory = host->alloc(handle, size, align)) return memory;
        throw std::bad_alloc();
    }
    void log(int32_t level, string_view text) const {
        host->log_message(host->context(handle), handle, level, text.data(), text.size());
    }
    /// Answers 503 until then; 0 seconds: 404 for the rest of this generation. Does not return.
    [[noreturn]] void unavailable(uint32_t seconds, string_view text) const {
        border::check(host->unavailable(handle, seconds, text.data(), text.size()), handle);
        throw error(SV_E_FAILED, text);
    }
    /// Throws error(404, ...) where there is no such target.
    void forward(string_view target) const { dispatch(SV_FORWARD, target); }
    void include(string_view target) const { dispatch(SV_INCLUDE, target); }
    /// SV_FORWARD or SV_INCLUDE, and SV_BY_NAME.
    void dispatch(int32_t how, string_view target) const {
        if (!border::check_or(host->dispatch(handle, how, target.data(), target.size()), SV_NONE, handle)) {
            throw error(404, "there is nothing to dispatch to at " + std::string(target));
        }
    }
    bool cancelled() const { return border::truth(host->cancelled(handle), handle); }
    bool retiring() const { return border::truth(host->retiring(handle), handle); }
    void set_timeout(uint64_t milliseconds) const { border::check(host->set_timeout(handle, milliseconds), handle); }
    /// Only in poll and for a task; else it wakes nobody.
    Waker waker() const { return Waker(host->waker(handle)); }
    /// In poll: ends the task; return SV_OK then.
    void async_dispatch(string_view path) const {
        border::check(host->async_dispatch(handle, path.data(), path.size()), handle);
    }
    /// Takes the exchange out of the call; service returns SV_PENDING then, and other threads go on. `told` is called
    /// on any thread, with SV_OK when the exchange retires, and with an error when it is over: each once at most. It
    /// must not block, and calls nothing of the exchange.
    Detached detach(std::function<void(sv_status why)> told = nullptr) const;
    sv_exchange *get() const { return handle; }

  protected:
    sv_exchange *handle;
};

/// An exchange that completes later, on any thread. Dropped before it is complete, it completes with an error: no
/// client waits for ever. Move it to where it is answered.
class Detached : public Exchange {
  public:
    Detached(Detached &&other) noexcept : Exchange(other), told(std::move(other.told)) { other.end(); }
    Detached &operator=(Detached &&) = delete;
    ~Detached() {
        if (handle) host->complete(handle, SV_E_FAILED);
    }
    /// The handle ends, and with it all that it returned.
    void complete(sv_status result = SV_OK) {
        border::check(host->complete(handle, result), handle);
        end();
    }
    void async_dispatch(string_view path) {
        Exchange::async_dispatch(path);
        end();
    }
    /// Does the work and completes; an exception of it becomes an answer, as in service.
    template <class Work> void complete_with(Work &&work) {
        complete(border::answering(handle, [&] { return work(static_cast<Exchange &>(*this)), SV_OK; }));
    }

  private:
    friend class Exchange;
    using Told = std::function<void(sv_status)>;
    Detached(sv_exchange *x, std::unique_ptr<Told> told) : Exchange(x), told(std::move(told)) {}
    void end() { static_cast<Exchange &>(*this) = Exchange(nullptr); }
    std::unique_ptr<Told> told; // outlives complete, after which it is not called
};

inline Detached Exchange::detach(std::function<void(sv_status)> told) const {
    using Told = std::function<void(sv_status)>;
    auto owned = told ? std::make_unique<Told>(std::move(told)) : nullptr;
    const auto tell = [](void *argument, sv_status why) {
        border::quietly([&] { return (*static_cast<Told *>(argument))(why), SV_OK; });
    };
    border::check(host->detach(handle, owned ? +tell : nullptr, owned.get()), handle);
    return Detached(handle, std::move(owned));
}

/// What goes on after service has returned it; deleted at the end, or when the exchange is cancelled.
class Task {
  public:
    virtual ~Task() = default;
    /// SV_PENDING: not yet; it is called again when a waker of this exchange fires. Must not block.
    virtual sv_status poll(Exchange &) = 0;
};

// ------------------------------------------------------------------------------------------------ declarations

/// How an instance of a servlet or a filter is configured. Its texts live as long as the instance.
class Config {
  public:
    Config(sv_context *context, void *module, const sv_config *config)
        : state(module), owner(context), config(config) {}
    string_view name() const { return view(config->name); }
    Context context() const { return Context(owner); }
    /// The first of that name: web.toml's goes before the declaration's.
    text_or_none init(string_view name) const {
        for (auto [key, value] : Pairs(config->init, config->init_count)) {
            if (key == name) return value;
        }
        return std::nullopt;
    }
    /// The module's state; only with state_of<State>() in the declaration.
    template <class State> State &module() const { return *static_cast<State *>(state); }

  private:
    void *state;
    sv_context *owner;
    const sv_config *config;
};

/// What a listener function is told. Memory as in C: until it returns.
class Event {
  public:
    explicit Event(const sv_event &event) : event(event) {}
    uint32_t kind() const { return event.kind; }
    Context context() const { return Context(event.context); }
    std::optional<Exchange> exchange() const {
        return event.exchange ? std::optional(Exchange(event.exchange)) : std::nullopt;
    }
    std::optional<Session> session() const {
        return event.session ? std::optional(Session(event.session)) : std::nullopt;
    }
    text_or_none session_id() const { return maybe(event.session_id); }
    text_or_none name() const { return maybe(event.name); }
    text_or_none value() const { return maybe(event.value); }
    text_or_none old_value() const { return maybe(event.old_value); }

  private:
    const sv_event &event;
};

/// One thing that a module offers: made by servlet_of, filter_of, listener_of or state_of. Texts are literals, or live
/// as long as the library. A function that does not apply to it does nothing.
class Declaration {
  public:
    /// A default for an init parameter.
    Declaration &&init(string_view name, string_view value) && {
        return inits.push_back(raw(name, value)), std::move(*this);
    }
    /// SV_NONBLOCKING, ...
    Declaration &&flags(uint32_t flags) && { return servlet.flags = filter.flags = flags, std::move(*this); }
    Declaration &&load_order(int32_t order) && { return servlet.load_order = order, std::move(*this); }
    /// Of a filter, among filters.
    Declaration &&order(int32_t order) && { return filter.order = order, std::move(*this); }
    /// SV_DISPATCH_*
    Declaration &&dispatches(uint32_t kinds) && { return filter.dispatches = kinds, std::move(*this); }
    /// The names of servlets that a filter is for.
    Declaration &&servlets(std::initializer_list<string_view> names) && {
        for (auto name : names) servlet_names.push_back(raw(name));
        return std::move(*this);
    }

    // For the functions below, and for Module.
    enum Kind { SERVLET, FILTER, LISTENER, STATE } kind;
    explicit Declaration(Kind kind) : kind(kind) {
        servlet.struct_size = sizeof servlet;
        filter.struct_size = sizeof filter;
        listener.struct_size = sizeof listener;
        servlet.load_order = -1;
    }
    sv_servlet servlet{};
    sv_filter filter{};
    sv_listener listener{};
    sv_module state{}; // its functions only
    std::vector<sv_str> patterns, servlet_names;
    std::vector<sv_pair> inits;
    void finish() { // at its last place in memory
        servlet.patterns = filter.patterns = patterns.data();
        servlet.pattern_count = filter.pattern_count = patterns.size();
        servlet.init = filter.init = inits.data();
        servlet.init_count = filter.init_count = inits.size();
        filter.servlets = servlet_names.data();
        filter.servlet_count = servlet_names.size();
    }
};

namespace border __attribute__((visibility("hidden"))) {

#define SERVLET_HAS(trait, member) \
    template <class T, class = void> inline constexpr bool trait = false; \
    template <class T> inline constexpr bool trait<T, std::void_t<decltype(&T::member)>> = true;
SERVLET_HAS(has_last_modified, last_modified)
SERVLET_HAS(has_on_request, on_request)
SERVLET_HAS(has_on_response, on_response)
SERVLET_HAS(has_on_body, on_body)
SERVLET_HAS(has_on_end, on_end)
SERVLET_HAS(has_save, save)
SERVLET_HAS(has_restore, restore)
#undef SERVLET_HAS
template <class T, class = void> struct state_of_filter { using type = void; };
template <class T> struct state_of_filter<T, std::void_t<typename T::State>> { using type = typename T::State; };

/// `new T(argument)`, or `new T()` where there is no such constructor.
template <class T, class Argument> T *made(const Argument &argument) {
    if constexpr (std::is_constructible_v<T, const Argument &>) {
        return new T(argument);
    } else {
        (void)argument;
        return new T();
    }
}
template <class T>
sv_status create(sv_context *context, void *module, const sv_config *config, void **out, sv_str *text) noexcept {
    return starting(text, [&] { return *out = made<T>(Config(context, module, config)), SV_OK; });
}
/// What a function of the library returned as a status; of void it is `done`.
template <class Work> sv_status status_of(sv_status done, Work &&work) {
    if constexpr (std::is_void_v<decltype(work())>) {
        return work(), done;
    } else {
        return work();
    }
}

template <class S> sv_status service(void *self, sv_exchange *handle, void **task) noexcept {
    return answering(handle, [&]() -> sv_status {
        Exchange x(handle);
        const auto call = [&] { return static_cast<S *>(self)->service(x); };
        if constexpr (std::is_convertible_v<decltype(call()), std::unique_ptr<Task>>) {
            std::unique_ptr<Task> made = call();
            if (!made) return SV_OK;
            *task = made.release();
            return SV_PENDING;
        } else {
            return status_of(SV_OK, call);
        }
    });
}
inline sv_status poll(void *task, sv_exchange *handle) noexcept {
    return answering(handle, [&] {
        Exchange x(handle);
        return static_cast<Task *>(task)->poll(x);
    });
}
template <class S> int64_t last_modified(void *self, sv_exchange *handle) noexcept {
    int64_t when = -1;
    quietly([&] {
        Exchange x(handle);
        return when = static_cast<S *>(self)->last_modified(x), SV_OK;
    });
    return when;
}

/// The functions of a filter; with a type State in it, each gets the one of its dispatch as a last argument.
template <class F> struct filter_functions {
    using State = typename state_of_filter<F>::type;
    template <class Function, class... More>
    static sv_status call(Function function, sv_status done, void *self, sv_exchange *handle, void *state,
                          More... more) {
        Exchange x(handle);
        return status_of(done, [&] {
            if constexpr (std::is_void_v<State>) {
                return (static_cast<F *>(self)->*function)(x, more...);
            } else {
                return (static_cast<F *>(self)->*function)(x, more..., *static_cast<State *>(state));
            }
        });
    }
    static void forget(void *state) noexcept {
        if constexpr (!std::is_void_v<State>) deleted<State>(state);
        (void)state;
    }
    static sv_status on_request(void *self, sv_exchange *handle, void **state) noexcept {
        const sv_status status = answering(handle, [&]() -> sv_status {
            if constexpr (!std::is_void_v<State>) *state = new State();
            if constexpr (has_on_request<F>) return call(&F::on_request, SV_NEXT, self, handle, *state);
            return SV_NEXT;
        });
        if (status != SV_NEXT) forget(std::exchange(*state, nullptr));
        return status;
    }
    static sv_status on_response(void *self, sv_exchange *handle, void *state) noexcept {
        return answering(handle, [&] { return call(&F::on_response, SV_OK, self, handle, state); });
    }
    static sv_status on_body(void *self, sv_exchange *handle, void *state, const char *bytes, size_t len,
                             int32_t last) noexcept {
        const string_view piece(bytes ? bytes : "", len);
        return answering(handle, [&] { return call(&F::on_body, SV_OK, self, handle, state, piece, last != 0); });
    }
    static void on_end(void *self, sv_exchange *handle, void *state, sv_status result) noexcept {
        if constexpr (has_on_end<F>) quietly([&] { return call(&F::on_end, SV_OK, self, handle, state, result); });
        (void)self, (void)handle, (void)result;
        forget(state);
    }
};

template <class Result, class State>
Result call_member(Result (State::*function)(const Event &), void *module, const Event &event) {
    return (static_cast<State *>(module)->*function)(event);
}
template <auto function> sv_status on_event(void *module, const sv_event *event) noexcept {
    (void)module;
    return quietly([&] {
        return status_of(SV_OK, [&] {
            if constexpr (std::is_member_function_pointer_v<decltype(function)>) {
                return call_member(function, module, Event(*event));
            } else {
                return function(Event(*event));
            }
        });
    });
}

template <class State> sv_status init(const sv_host *table, sv_context *context, void **module, sv_str *text) noexcept {
    host = table;
    return starting(text, [&] {
        if constexpr (!std::is_void_v<State>) *module = made<State>(Context(context));
        (void)context, (void)module;
        return SV_OK;
    });
}
template <class State> sv_status save(void *module, char *buffer, size_t capacity, size_t *len) noexcept {
    return quietly([&] {
        const std::string bytes = static_cast<State *>(module)->save();
        if (bytes.size() <= capacity && !bytes.empty()) std::memcpy(buffer, bytes.data(), bytes.size());
        return *len = bytes.size(), SV_OK;
    });
}
template <class State> sv_status restore(void *module, const char *bytes, size_t len) noexcept {
    return quietly([&] {
        static_cast<State *>(module)->restore(string_view(bytes ? bytes : "", len));
        return SV_OK;
    });
}

} // namespace border

/// A servlet: S has service(Exchange &), which returns nothing (done), an sv_status (SV_OK, SV_NEXT, SV_PENDING after
/// detach), or a std::unique_ptr of a Task; and maybe last_modified(Exchange &), in ms since 1970. It is called on many
/// threads at once. `methods` is SV_GET | ...; 0: it answers each method itself.
template <class S>
Declaration servlet_of(string_view name, std::initializer_list<string_view> patterns, uint32_t methods) {
    Declaration made(Declaration::SERVLET);
    made.servlet.name = raw(name);
    made.servlet.methods = methods;
    for (auto pattern : patterns) made.patterns.push_back(raw(pattern));
    made.servlet.create = border::create<S>;
    made.servlet.destroy = border::deleted<S>;
    made.servlet.service = border::service<S>;
    made.servlet.poll = border::poll;
    made.servlet.drop = border::deleted<Task>;
    if constexpr (border::has_last_modified<S>) made.servlet.last_modified = border::last_modified<S>;
    return made;
}

/// A filter: F has some of
///   sv_status on_request(Exchange &)    or void: SV_NEXT     void on_response(Exchange &)
///   void on_body(Exchange &, string_view bytes, bool last)   void on_end(Exchange &, sv_status result)
/// and maybe a type State, one for each dispatch, which each of them then takes by reference as its last argument.
template <class F> Declaration filter_of(string_view name, std::initializer_list<string_view> patterns) {
    Declaration made(Declaration::FILTER);
    made.filter.name = raw(name);
    for (auto pattern : patterns) made.patterns.push_back(raw(pattern));
    made.filter.create = border::create<F>;
    made.filter.destroy = border::deleted<F>;
    made.filter.on_request = border::filter_functions<F>::on_request;
    if constexpr (border::has_on_response<F>) made.filter.on_response = border::filter_functions<F>::on_response;
    if constexpr (border::has_on_body<F>) made.filter.on_body = border::filter_functions<F>::on_body;
    made.filter.on_end = border::filter_functions<F>::on_end;
    return made;
}

/// A listener function: void(const Event &) or sv_status(const Event &), free or a member of the module's state. `kinds`
/// is SV_EVENT_* | ...
template <auto function> Declaration listener_of(uint32_t kinds) {
    Declaration made(Declaration::LISTENER);
    made.listener.kinds = kinds;
    made.listener.on_event = border::on_event<function>;
    return made;
}

/// The module's state: made from its Context before anything else, deleted last. With std::string save() and
/// void restore(string_view) it is handed over to the next generation. A module has at most one.
template <class State> Declaration state_of() {
    Declaration made(Declaration::STATE);
    made.state.init = border::init<State>;
    made.state.destroy = border::deleted<State>;
    if constexpr (border::has_save<State>) made.state.save = border::save<State>;
    if constexpr (border::has_restore<State>) made.state.restore = border::restore<State>;
    return made;
}

/// What servlet_module_v1 returns; SERVLET_MODULE makes it at its first call.
class Module {
  public:
    Module(string_view name, string_view version, std::initializer_list<Declaration> declarations) : all(declarations) {
        module.init = border::init<void>;
        for (auto &one : all) {
            one.finish();
            if (one.kind == Declaration::SERVLET) servlets.push_back(&one.servlet);
            if (one.kind == Declaration::FILTER) filters.push_back(&one.filter);
            if (one.kind == Declaration::LISTENER) listeners.push_back(&one.listener);
            if (one.kind == Declaration::STATE) module = one.state;
        }
        module.magic = SV_MAGIC;
        module.struct_size = sizeof module;
        module.abi_major = SV_ABI_MAJOR;
        module.abi_minor = SV_ABI_MINOR;
        module.name = raw(name);
        module.version = raw(version);
        module.built_with = raw("C++, servlet.hpp");
        module.servlets = servlets.data();
        module.servlet_count = servlets.size();
        module.filters = filters.data();
        module.filter_count = filters.size();
        module.listeners = listeners.data();
        module.listener_count = listeners.size();
    }
    Module(const Module &) = delete;
    const sv_module *get() const { return &module; }

  private:
    std::vector<Declaration> all;
    std::vector<const sv_servlet *> servlets;
    std::vector<const sv_filter *> filters;
    std::vector<const sv_listener *> listeners;
    sv_module module{};
};

} // namespace servlet

/// Declares the module: its name, its version, and what it offers. Once in a library, outside any namespace.
#define SERVLET_MODULE(name, version, ...) \
    const sv_module *servlet_module_v1(void) { \
        try { \
            static const ::servlet::Module module(name, version, {__VA_ARGS__}); \
            return module.get(); \
        } catch (...) { \
            return nullptr; \
        } \
    }

#endif
