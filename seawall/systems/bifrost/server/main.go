// Command server puts Bifrost's core behind OpenAI's chat completions. It is Seawall's, not Bifrost's: Bifrost's own
// HTTP server comes as a program that its npm package downloads at run time. What decides who is asked, how often and
// for how long is the core's alone; here is only what turns HTTP into its calls and its answers into HTTP.
//
//	server CONFIG    prints {"port": …} when it listens on a free port of 127.0.0.1
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	bifrost "github.com/maximhq/bifrost/core"
	"github.com/maximhq/bifrost/core/schemas"
)

type upstream struct {
	Name    string `json:"name"`
	BaseURL string `json:"base_url"`
	Model   string `json:"model"`
	APIKey  string `json:"api_key"`
}

// Seconds of 0 leave the core's default.
type config struct {
	Upstreams          []upstream `json:"upstreams"`
	RequestTimeout     int        `json:"request_timeout_s"`
	StreamIdleTimeout  int        `json:"stream_idle_timeout_s"`
	MaxRetries         int        `json:"max_retries"`
	RetryBackoffMillis int        `json:"retry_backoff_ms"`
}

func (c *config) GetConfiguredProviders() ([]schemas.ModelProvider, error) {
	var names []schemas.ModelProvider
	for _, each := range c.Upstreams {
		names = append(names, schemas.ModelProvider(each.Name))
	}
	return names, nil
}

func (c *config) find(name schemas.ModelProvider) (upstream, error) {
	for _, each := range c.Upstreams {
		if each.Name == string(name) {
			return each, nil
		}
	}
	return upstream{}, fmt.Errorf("there is no provider %s", name)
}

func (c *config) GetKeysForProvider(_ context.Context, name schemas.ModelProvider) ([]schemas.Key, error) {
	found, err := c.find(name)
	if err != nil {
		return nil, err
	}
	value := *schemas.NewSecretVar(found.APIKey)
	return []schemas.Key{{ID: found.Name, Name: found.Name, Value: value, Models: schemas.WhiteList{"*"}, Weight: 1}}, nil
}

func (c *config) GetConfigForProvider(name schemas.ModelProvider) (*schemas.ProviderConfig, error) {
	found, err := c.find(name)
	if err != nil {
		return nil, err
	}
	settings := &schemas.ProviderConfig{
		NetworkConfig: schemas.NetworkConfig{
			BaseURL:                        found.BaseURL,
			DefaultRequestTimeoutInSeconds: c.RequestTimeout,
			StreamIdleTimeoutInSeconds:     c.StreamIdleTimeout,
			MaxRetries:                     c.MaxRetries,
			AllowPrivateNetwork:            true,
		},
		CustomProviderConfig: &schemas.CustomProviderConfig{BaseProviderType: schemas.OpenAI},
	}
	if c.RetryBackoffMillis > 0 {
		settings.NetworkConfig.RetryBackoffInitial = time.Duration(c.RetryBackoffMillis) * time.Millisecond
	}
	settings.CheckAndSetDefaults()
	return settings, nil
}

type question struct {
	Messages  []schemas.ChatMessage `json:"messages"`
	MaxTokens *int                  `json:"max_tokens"`
	Stream    bool                  `json:"stream"`
}

type server struct {
	config *config
	core   *bifrost.Bifrost
}

func (s *server) chat(writer http.ResponseWriter, request *http.Request) {
	var asked question
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(writer, `{"error": {"message": "the body is no request", "type": "invalid_request_error"}}`, 400)
		return
	}
	call := &schemas.BifrostChatRequest{
		Provider: schemas.ModelProvider(s.config.Upstreams[0].Name),
		Model:    s.config.Upstreams[0].Model,
		Input:    asked.Messages,
		Params:   &schemas.ChatParameters{MaxCompletionTokens: asked.MaxTokens},
	}
	for _, each := range s.config.Upstreams[1:] {
		call.Fallbacks = append(call.Fallbacks, schemas.Fallback{Provider: schemas.ModelProvider(each.Name), Model: each.Model})
	}
	ctx, cancel := schemas.NewBifrostContextWithCancel(request.Context())
	defer cancel()
	if asked.Stream {
		s.stream(writer, ctx, call)
		return
	}
	answer, problem := s.core.ChatCompletionRequest(ctx, call)
	if problem != nil {
		fail(writer, problem)
		return
	}
	writer.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(writer).Encode(answer)
}

func (s *server) stream(writer http.ResponseWriter, ctx *schemas.BifrostContext, call *schemas.BifrostChatRequest) {
	chunks, problem := s.core.ChatCompletionStreamRequest(ctx, call)
	if problem != nil {
		fail(writer, problem)
		return
	}
	writer.Header().Set("content-type", "text/event-stream")
	flusher, _ := writer.(http.Flusher)
	for chunk := range chunks {
		if chunk.BifrostError != nil {
			text, _ := json.Marshal(chunk.BifrostError)
			_, _ = fmt.Fprintf(writer, "data: %s\n\n", text)
			flusher.Flush()
			return
		}
		text, err := json.Marshal(chunk)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(writer, "data: %s\n\n", text)
		flusher.Flush()
	}
	_, _ = fmt.Fprint(writer, "data: [DONE]\n\n")
	flusher.Flush()
}

// fail tells the core's own error under the core's own status.
func fail(writer http.ResponseWriter, problem *schemas.BifrostError) {
	status := 500
	if problem.StatusCode != nil {
		status = *problem.StatusCode
	}
	writer.Header().Set("content-type", "application/json")
	writer.WriteHeader(status)
	_ = json.NewEncoder(writer).Encode(problem)
}

func run() error {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	settings := &config{}
	if err := json.Unmarshal(text, settings); err != nil {
		return err
	}
	core, err := bifrost.Init(context.Background(), schemas.BifrostConfig{
		Account: settings,
		Logger:  bifrost.NewDefaultLogger(schemas.LogLevelError),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", (&server{config: settings, core: core}).chat)
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	serving := &http.Server{Handler: mux}
	go func() {
		<-stopped
		_ = serving.Close()
	}()
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	if err := serving.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	core.Shutdown()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
