// Command stubs makes gen/, the Go stubs of protos/: `go generate ./...`, also after each change of a
// contract. It needs nothing but this module.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

//go:generate go run .

// importPath is the module's own path, and where its stubs are.
const importPath = "service/gen"

func main() {
	if err := generate(context.Background(), filepath.Join("..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate replaces gen/ below root, or leaves it as it is if a contract has an error.
func generate(ctx context.Context, root string) error {
	request, err := requested(ctx, filepath.Join(root, "protos"), filepath.Join(root, "chassis", "protos"))
	if err != nil {
		return fmt.Errorf("protos/ does not compile, gen/ is unchanged:\n%w", err)
	}
	made, err := os.MkdirTemp(root, ".gen-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(made) }()
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := run(ctx, plugin, request, made); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	gen := filepath.Join(root, "gen")
	if err := os.RemoveAll(gen); err != nil {
		return err
	}
	return os.Rename(made, gen)
}

// requested is what protoc would ask its plugins for.
func requested(ctx context.Context, protos, chassis string) ([]byte, error) {
	names, err := contracts(protos)
	if err != nil {
		return nil, err
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(
			&protocompile.SourceResolver{ImportPaths: []string{protos, chassis}},
		),
		// Comments of the contract become those of the stubs.
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	parameters := []string{"paths=source_relative", "Mfactfold/v1/options.proto=factfold/chassis/factfold/v1"}
	for _, name := range names {
		parameters = append(parameters, fmt.Sprintf("M%s=%s/%s;%s", name, importPath, path.Dir(name), packageName(name)))
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String(strings.Join(parameters, ",")),
	}
	seen := map[string]bool{}
	for _, file := range files {
		request.ProtoFile = withImports(request.ProtoFile, file, seen)
	}
	return proto.Marshal(request)
}

// contracts are the .proto files below a folder, as they are imported, in order.
func contracts(folder string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".proto") {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// packageName is ordersv1 for acme/orders/v1/contract.proto.
func packageName(name string) string {
	folder := path.Dir(name)
	return strings.ReplaceAll(path.Base(path.Dir(folder))+path.Base(folder), "_", "")
}

// withImports appends a file behind those that it imports: plugins want them in this order.
func withImports(
	files []*descriptorpb.FileDescriptorProto, file protoreflect.FileDescriptor, seen map[string]bool,
) []*descriptorpb.FileDescriptorProto {
	if seen[file.Path()] {
		return files
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		files = withImports(files, imports.Get(i).FileDescriptor, seen)
	}
	return append(files, protodesc.ToFileDescriptorProto(file))
}

// run lets a plugin write its files below a folder.
func run(ctx context.Context, plugin string, request []byte, made string) error {
	command := exec.CommandContext(ctx, "go", "tool", plugin)
	command.Stdin, command.Stderr = bytes.NewReader(request), os.Stderr
	out, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		target := filepath.Join(made, filepath.FromSlash(file.GetName()))
		if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte(file.GetContent()), 0o666); err != nil {
			return err
		}
	}
	return nil
}
