// The kit in C++: as kit.c, on servlet.hpp.
#include <servlet.hpp>

#include <atomic>
#include <string>

using namespace servlet;

static void put(Exchange &x, string_view label, text_or_none value) {
    x.response.write(label);
    x.response.write(value ? ": " : " is absent");
    if (value) x.response.write(*value);
    x.response.write("\n");
}

static void put_all(Exchange &x, Pairs pairs) {
    for (auto [name, value] : pairs) {
        x.response.write(name);
        x.response.write("=");
        x.response.write(value);
        x.response.write("\n");
    }
}

static void plain(Exchange &x) { x.response.set_content_type("text/plain; charset=utf-8"); }

struct Facts {
    void service(Exchange &x) {
        const sv_request &request = x.request.head();
        plain(x);
        put(x, "method", maybe(request.method_name));
        put(x, "uri", x.request.uri());
        put(x, "query", x.request.query());
        put(x, "context path", maybe(request.context_path));
        put(x, "servlet path", maybe(request.servlet_path));
        put(x, "path info", x.request.path_info());
        put(x, "pattern", maybe(request.match_pattern));
        put(x, "servlet", maybe(request.servlet_name));
        put(x, "scheme", maybe(request.scheme));
        put(x, "server", maybe(request.server_name));
        put(x, "remote", maybe(request.remote_addr));
        put(x, "content type", x.request.content_type());
        put(x, "x-tester", x.request.header("X-Tester"));
    }
};

struct Params {
    void service(Exchange &x) {
        const auto a = x.request.parameter("a");
        plain(x);
        put(x, "a", a);
        put_all(x, x.request.parameters());
    }
};

struct Items {
    void service(Exchange &x) {
        plain(x);
        put(x, "id", x.request.path_parameter("id"));
    }
};

struct Cookies {
    void service(Exchange &x) {
        Cookie seen;
        seen.name = "seen";
        seen.value = "yes";
        seen.path = "/";
        seen.max_age = 60;
        seen.flags = SV_COOKIE_HTTP_ONLY;
        x.response.set_cookie(seen);
        plain(x);
        put(x, "taste", x.request.cookie("taste"));
        put_all(x, x.request.cookies());
    }
};

struct Attributes {
    void service(Exchange &x) {
        x.request.set_attribute("a", "1");
        x.request.set_attribute("b", "2");
        x.request.remove_attribute("a");
        plain(x);
        put(x, "a", x.request.attribute("a"));
        put(x, "b", x.request.attribute("b"));
    }
};

struct Count {
    void service(Exchange &x) {
        size_t bytes = 0;
        while (const auto chunk = x.request.read_chunk()) bytes += chunk->size();
        plain(x);
        x.response.write(std::to_string(bytes) + " bytes\n");
    }
};

struct Upload {
    void service(Exchange &x) {
        const auto count = x.request.part_count();
        if (!count) throw error(415, "no form with files");
        plain(x);
        for (size_t i = 0; i < *count; i++) {
            const sv_part &part = x.request.part(i);
            std::string line(view(part.name));
            line += ' ';
            line += maybe(part.file_name).value_or("-");
            line += ' ';
            line += maybe(part.content_type).value_or("-");
            x.response.write(line + " " + std::to_string(part.size) + "\n");
        }
    }
};

struct Stream {
    void service(Exchange &x) {
        std::string piece(26 * 1024, 'a');
        for (size_t i = 0; i < piece.size(); i++) piece[i] = static_cast<char>('a' + i % 26);
        plain(x);
        for (size_t left = 1048576; left > 0;) left -= x.response.write(string_view(piece).substr(0, left));
    }
};

struct Missing {
    void service(Exchange &) { throw error(404, "no such item"); }
};

struct Broken {
    void service(Exchange &) { throw error(SV_E_FAILED, "kit/broken", "it broke"); }
};

struct Redirect {
    void service(Exchange &x) { x.response.redirect("facts?from=redirect"); }
};

struct Modified {
    void service(Exchange &x) {
        plain(x);
        x.response.write("old news\n");
    }
    int64_t last_modified(Exchange &) { return 1700000000000; }
};

// ------------------------------------------------------------------------------------------------ sessions

struct Visits {
    void service(Exchange &x) {
        const Session session = *x.session();
        const std::string before(session.attribute("visits").value_or("0"));
        const std::string visits = std::to_string(std::stoi(before) + 1);
        session.set("visits", visits);
        plain(x);
        x.response.write("visits: " + visits + "\n");
    }
};

struct End {
    void service(Exchange &x) {
        const auto session = x.session(false);
        if (!session) throw error(409, "there is no session");
        session->invalidate();
        plain(x);
        x.response.write("ended\n");
    }
};

// The module's state: what the listener counts.
struct Kit {
    std::atomic<int> created{0}, destroyed{0};

    void on_session(const Event &event) {
        if (event.kind() == SV_EVENT_SESSION_CREATED) created++;
        if (event.kind() == SV_EVENT_SESSION_DESTROYED) destroyed++;
    }
};

struct Sessions {
    Kit &kit;
    explicit Sessions(const Config &config) : kit(config.module<Kit>()) {}
    void service(Exchange &x) {
        plain(x);
        x.response.write("created: " + std::to_string(kit.created) + "\n");
        x.response.write("destroyed: " + std::to_string(kit.destroyed) + "\n");
    }
};

// ------------------------------------------------------------------------------------------------ async

struct AfterAWhile : Task {
    sv_status poll(Exchange &x) override {
        plain(x);
        x.response.write("after a while\n");
        return SV_OK;
    }
};

struct Timer {
    std::unique_ptr<Task> service(Exchange &x) {
        x.context().timer(20, x.waker());
        return std::make_unique<AfterAWhile>();
    }
};

struct FromAThread {
    sv_status service(Exchange &x) {
        const Context context = x.context();
        context.post([exchange = x.detach()]() mutable {
            exchange.complete_with([](Exchange &later) {
                plain(later);
                later.response.write("from a thread: ");
                later.response.write(view(later.request.head().servlet_path));
                later.response.write("\n");
            });
        });
        return SV_PENDING;
    }
};

struct Stamp {
    void on_response(Exchange &x) { x.response.set_header("X-Kit", "stamped"); }
};

SERVLET_MODULE("kit", "1", state_of<Kit>(), servlet_of<Facts>("facts", {"/facts/*"}, 0),
               servlet_of<Params>("params", {"/params"}, SV_GET | SV_POST),
               servlet_of<Items>("items", {"/items/{id}"}, SV_GET),
               servlet_of<Cookies>("cookies", {"/cookies"}, SV_GET),
               servlet_of<Attributes>("attributes", {"/attributes"}, SV_GET),
               servlet_of<Count>("count", {"/count"}, SV_POST),
               servlet_of<Upload>("upload", {"/upload"}, SV_POST).flags(SV_MULTIPART),
               servlet_of<Stream>("stream", {"/stream"}, SV_GET), servlet_of<Missing>("missing", {"/missing"}, SV_GET),
               servlet_of<Broken>("broken", {"/broken"}, SV_GET),
               servlet_of<Redirect>("redirect", {"/redirect"}, SV_GET),
               servlet_of<Modified>("modified", {"/modified"}, SV_GET),
               servlet_of<Visits>("session", {"/session"}, SV_GET),
               servlet_of<End>("session_end", {"/session/end"}, SV_POST),
               servlet_of<Sessions>("sessions", {"/sessions"}, SV_GET), servlet_of<Timer>("timer", {"/timer"}, SV_GET),
               servlet_of<FromAThread>("detached", {"/detached"}, SV_GET), filter_of<Stamp>("stamp", {"/*"}),
               listener_of<&Kit::on_session>(SV_EVENT_SESSION_CREATED | SV_EVENT_SESSION_DESTROYED))
