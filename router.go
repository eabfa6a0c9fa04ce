package rigatoni

import (
	"context"
	"fmt"
	"slices"

	"github.com/rigatoni-etl/rigatoni/internal/glob"
)

// A Router is a [Destination] that calls a function for each event by its
// namespace and operation. The zero Router has no routes. Routes are added before
// the pipeline runs.
type Router struct {
	routes []route
}

type route struct {
	namespace  string
	operations []string
	handle     Func
}

// On routes the events of a namespace to f: "shop.orders", or a pattern, in which
// * stands for any run of characters ("shop.*", "*.orders", "*"). Events without
// a namespace (invalidate) match "*" alone. With operations only those
// are routed: r.On("shop.orders", refund, "delete"). The first route that was
// added and matches is taken. It returns r.
func (r *Router) On(namespace string, f Func, operations ...string) *Router {
	r.routes = append(r.routes, route{namespace, operations, f})
	return r
}

// deliver calls the function of the route of the event. An event that no route matches
// is refused, so that none is passed over in silence: add On("*", Ignore) to
// pass over the rest.
func (r *Router) deliver(ctx context.Context, ev Event) error {
	ns, op := ev.Namespace().String(), ev.OperationType()
	for _, rt := range r.routes {
		if glob.Match(rt.namespace, ns) && (len(rt.operations) == 0 || slices.Contains(rt.operations, op)) {
			return rt.handle(ctx, ev)
		}
	}
	return Permanent(fmt.Errorf("the router has no route for %s in %q; to pass over such events, add On(%q, rigatoni.Ignore)", op, ns, "*"))
}

// Open returns a [Func] that routes.
func (r *Router) Open(context.Context, Opening) (Sink, error) { return Func(r.deliver), nil }
