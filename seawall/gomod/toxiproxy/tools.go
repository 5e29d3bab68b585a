//go:build tools

// Package toxiproxy pins the Toxiproxy server and all it needs. `go mod tidy` keeps go.mod and go.sum true to this
// import; nothing here is compiled.
package toxiproxy

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
