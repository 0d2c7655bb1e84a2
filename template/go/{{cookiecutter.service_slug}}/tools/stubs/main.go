// Command stubs makes gen/, the Go stubs of protos/: `go generate ./...`, also after each change of a
// contract. `go run ./tools/stubs -chassis .` makes those of the chassis, which are committed. It
// needs nothing but this module.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
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

// stubs are made of all protos of a folder.
type stubs struct {
	protos  string // the folder, below the repository
	imports string // the folder that they may import from, too
	made    string // the folder of what is made that is kept, below all of it
	folder  string // where it is kept, below the repository
	path    string // what the import paths of all packages begin with
	plugins []string
}

func main() {
	chassis := flag.String("chassis", "", "make the stubs of the chassis in this repository")
	flag.Parse()
	root, its := filepath.Join("..", ".."), stubs{
		protos: "protos", imports: "chassis/protos", folder: "gen", path: "service/gen",
		plugins: []string{"protoc-gen-go", "protoc-gen-go-grpc"},
	}
	if *chassis != "" {
		root, its = *chassis, stubs{
			protos: "chassis/protos", imports: "chassis/protos", made: "factfold", folder: "chassis/factfold",
			path: "factfold/chassis", plugins: []string{"protoc-gen-go"},
		}
	}
	if err := its.generate(context.Background(), root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate replaces the folder below root, or leaves it as it is if a contract has an error.
func (s stubs) generate(ctx context.Context, root string) error {
	request, err := s.requested(ctx, root)
	if err != nil {
		return fmt.Errorf("%s/ does not compile, %s/ is unchanged:\n%w", s.protos, s.folder, err)
	}
	made, err := os.MkdirTemp(root, ".gen-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(made) }()
	for _, plugin := range s.plugins {
		if err := run(ctx, plugin, request, made); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	folder := filepath.Join(root, filepath.FromSlash(s.folder))
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.Rename(filepath.Join(made, s.made), folder)
}

// requested is what protoc would ask its plugins for.
func (s stubs) requested(ctx context.Context, root string) ([]byte, error) {
	protos := filepath.Join(root, filepath.FromSlash(s.protos))
	imports := filepath.Join(root, filepath.FromSlash(s.imports))
	names, err := contracts(protos)
	if err != nil {
		return nil, err
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(
			&protocompile.SourceResolver{ImportPaths: []string{protos, imports}},
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
		parameters = append(parameters, fmt.Sprintf("M%s=%s/%s;%s", name, s.path, path.Dir(name), packageName(name)))
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
