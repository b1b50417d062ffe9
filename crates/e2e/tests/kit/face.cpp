// What servlet.hpp adds to the table: exceptions that become answers, objects that end, and tasks that are called
// again.
#include <servlet.hpp>

#include <atomic>
#include <string>

using namespace servlet;

static std::atomic<int> alive{0};

// The module's state; it ends last, and says whether all others have ended.
struct State {
    Context context;
    std::string handed = "nothing";

    explicit State(const Context &context) : context(context) {
#ifdef REFUSED
        throw std::runtime_error("the moon is full");
#endif
    }
    ~State() { context.log(SV_LOG_INFO, "the state ends, alive: " + std::to_string(alive)); }
    std::string save() { return "a note of generation " + std::to_string(context.generation()); }
    void restore(string_view bytes) { handed = bytes; }
};

struct Counted {
    Counted() { alive++; }
    Counted(const Counted &) { alive++; }
    ~Counted() { alive--; }
};

// ------------------------------------------------------------------------------------------------ exceptions

struct Throws : Counted {
    void service(Exchange &x) {
        const string_view what = x.request.path_info().value_or("");
        if (what == "/status") throw error(410, "it has gone");
        if (what == "/kind") throw error(SV_E_FAILED, "face/broken", "it broke");
        if (what == "/runtime") throw std::runtime_error("a fault of ours");
        if (what == "/memory") throw std::bad_alloc();
        if (what == "/number") throw 7;
        if (what == "/server") x.response.set_status(7); // the server's error passes through
        if (what == "/unavailable") x.unavailable(0, "not today");
        if (what == "/limit") x.request.read_all(3);
        if (what == "/caught") {
            try {
                x.response.set_header("bad name", "1");
            } catch (const error &e) {
                x.response.text("status " + std::to_string(e.status) + (e.what()[0] ? ", with words" : ", without"));
            }
        }
    }
};

// ------------------------------------------------------------------------------------------------ detached

struct Dropped : Counted {
    sv_status service(Exchange &x) {
        const Detached nobody = x.detach();
        return SV_PENDING;
    }
};

struct DroppedByThrow : Counted {
    void service(Exchange &x) {
        const Detached nobody = x.detach();
        throw error(404, "too late to say");
    }
};

struct OnAThread : Counted {
    sv_status service(Exchange &x) {
        const bool bad = x.request.query() == "bad";
        const Context context = x.context();
        context.post([bad, exchange = x.detach([counted = Counted()](sv_status) {})]() mutable {
            Detached moved = std::move(exchange);
            moved.complete_with([bad](Exchange &later) {
                if (bad) throw error(409, "from a thread");
                later.response.text("from a thread");
            });
        });
        return SV_PENDING;
    }
};

struct Elsewhere : Counted {
    sv_status service(Exchange &x) {
        Detached exchange = x.detach();
        exchange.async_dispatch("/objects");
        return SV_PENDING;
    }
};

// ------------------------------------------------------------------------------------------------ tasks

// Reads a body that comes when it comes: would_block passes through poll.
struct Reader : Task, Counted {
    sv_status poll(Exchange &x) override {
        const string_view body = x.request.read_all(1000);
        if (body == "bad") throw error(422, "a bad body");
        x.response.text("read " + std::string(body));
        return SV_OK;
    }
};

struct Read : Counted {
    std::unique_ptr<Reader> service(Exchange &x) {
        const Waker first = x.waker(), second = first, third = std::move(first); // each is given back once
        second.wake();
        return std::make_unique<Reader>();
    }
};

// Writes 10 MiB, as much at a time as is taken.
struct Writer : Task, Counted {
    size_t left = 10 << 20;
    const std::string piece = std::string(100000, 'w');

    sv_status poll(Exchange &x) override {
        while (left > 0) left -= x.response.write(string_view(piece).substr(0, left));
        return SV_OK;
    }
};

struct Write : Counted {
    std::unique_ptr<Task> service(Exchange &x) {
        x.waker().wake();
        return std::make_unique<Writer>();
    }
};

struct Nothing : Counted {
    std::unique_ptr<Task> service(Exchange &x) {
        x.response.text("no task");
        return nullptr;
    }
};

// ------------------------------------------------------------------------------------------------ the rest

struct Objects : Counted {
    State &state;
    explicit Objects(const Config &config) : state(config.module<State>()) {
        if (config.init("colour") != "red") throw std::runtime_error("the init parameter is not there");
    }
    void service(Exchange &x) {
        Context context = x.context();
        context.set_attribute("long", std::string(10000, 'x'));
        const auto attribute = context.attribute("long");
        std::string text = "handed over: " + state.handed + "\n";
        text += "attribute: " + std::to_string(attribute ? attribute->size() : 0) + "\n";
        text += std::string("none: ") + (context.attribute("none") ? "there" : "absent") + "\n";
        text += std::string("empty: ") + (x.request.parameter("empty") ? "there" : "absent") + "\n";
        text += "alive: " + std::to_string(alive) + "\n";
        x.response.text(text);
    }
};

// Each dispatch has a State of its own, which is a counted object as well.
struct Watch {
    struct State : Counted {
        std::string note;
    };
    sv_status on_request(Exchange &x, State &state) {
        if (x.request.header("x-stop")) throw error(403, "stopped");
        state.note = "noted";
        return SV_NEXT;
    }
    void on_response(Exchange &x, State &state) { x.response.set_header("X-Note", state.note); }
    void on_end(Exchange &, sv_status, State &state) {
        if (state.note != "noted") std::terminate();
    }
};

struct Reverse {
    void on_body(Exchange &x, string_view bytes, bool) {
        x.response.write(std::string(bytes.rbegin(), bytes.rend()));
    }
};

static std::atomic<int> requests{0};
static void on_request(const Event &event) {
    if (event.exchange()) requests++;
}
static void on_end(const Event &) { throw std::runtime_error("a listener's fault changes nothing"); }

SERVLET_MODULE("face", "1", state_of<State>(), servlet_of<Throws>("throws", {"/throws/*"}, 0),
               servlet_of<Dropped>("dropped", {"/dropped"}, SV_GET),
               servlet_of<DroppedByThrow>("dropped-by-throw", {"/dropped-by-throw"}, SV_GET),
               servlet_of<OnAThread>("thread", {"/thread"}, SV_GET),
               servlet_of<Elsewhere>("elsewhere", {"/elsewhere"}, SV_GET),
               servlet_of<Read>("read", {"/read"}, SV_POST).flags(SV_NONBLOCKING),
               servlet_of<Write>("write", {"/write"}, SV_GET).flags(SV_NONBLOCKING),
               servlet_of<Nothing>("nothing", {"/nothing", "/backwards/nothing"}, SV_GET),
               servlet_of<Objects>("objects", {"/objects"}, SV_GET).init("colour", "red").load_order(1),
               filter_of<Watch>("watch", {"/*"}).order(1),
               filter_of<Reverse>("reverse", {"/backwards/*"}).order(2).dispatches(SV_DISPATCH_REQUEST),
               listener_of<on_request>(SV_EVENT_REQUEST_INITIALIZED), listener_of<on_end>(SV_EVENT_REQUEST_DESTROYED))
