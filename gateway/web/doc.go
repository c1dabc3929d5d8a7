// Package web is the console: the pages on which people work with davit in a
// browser. It renders them on the server from the templates and static files that are
// embedded in it, and changes things through the same service, the same roles and
// the same rules as the HTTP API.
//
// It owns nothing but pages: what is shown is read anew for each request. It may
// import the gateway, gateway/people and the orchestrator, and never a store, the
// broker or the bridge. It holds no state but caches of parsed templates, and starts
// no goroutine; every method is safe for concurrent use.
//
// How a page is made: a template in templates/ that defines "content" (and
// "actions", what stands at the right of the heading), a handler that renders it
// with visit.render, and a route that names the operation of people.Operations it
// belongs to (Console.handle). Whoever may not carry out the operation gets the page
// for 403; templates leave out what may not be done with {{if can "start-job"}}.
package web
