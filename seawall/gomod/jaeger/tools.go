//go:build tools

// Package jaeger pins Jaeger's all-in-one and all it needs, with the versions of Jaeger's own go.mod. Nothing here is
// compiled.
package jaeger

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
