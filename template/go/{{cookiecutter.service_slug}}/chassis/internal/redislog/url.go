package redislog

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

type kind int

const (
	single kind = iota
	cluster
	sentinel
)

// URL is where the log is: one server, nodes of a cluster, or what sentinels know.
type URL struct {
	kind      kind
	addresses []string // host:port, of the server, of nodes or of sentinels; of unix:// the path
	name      string   // that sentinels know the server by
	unix, tls bool
	username  string
	password  string
	db        int
	options   map[string]string
}

// Options of a URL: those of TLS, a login as options, and the login of sentinels.
const (
	optionCA       = "ssl_ca_certs"
	optionCert     = "ssl_certfile"
	optionKey      = "ssl_keyfile"
	optionVerify   = "ssl_cert_reqs"
	optionHostname = "ssl_check_hostname"
	sentinelUser   = "sentinel_username"
	sentinelPass   = "sentinel_password"
)

var (
	schemes = map[string]kind{"redis": single, "redis+cluster": cluster, "redis+sentinel": sentinel}
	paths   = map[kind]*regexp.Regexp{
		single:   regexp.MustCompile(`^(?:/?|/([0-9]+))$`),
		cluster:  regexp.MustCompile(`^(?:/?|/(0))$`),
		sentinel: regexp.MustCompile(`^/([A-Za-z0-9_.-]+)(?:/([0-9]+))?$`),
	}
	hostText = regexp.MustCompile(`^(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/]+))(?::([0-9]{1,5}))?$`)
)

// ParseURL takes a URL apart. An error says what is wrong, and nothing of passwords.
func ParseURL(text string) (URL, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return URL{}, errors.New("it has no ://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	options, err := optionsOf(query)
	if err != nil {
		return URL{}, err
	}
	made := URL{options: options}
	// A raw "/" in a password would otherwise end up in the path, and so in a log line.
	authority, path, slash := strings.Cut(rest, "/")
	if slash {
		path = "/" + path
	}
	login, hosts, ok := cutLast(authority, "@")
	if !ok {
		hosts = authority
	}
	if scheme == "unix" {
		if hosts != "" || len(path) < 2 || strings.Contains(path, "@") {
			return URL{}, errors.New("a socket is a path that begins with /")
		}
		made.unix, made.addresses = true, []string{path}
		return made.withLogin(login, "")
	}
	if strings.HasPrefix(scheme, "rediss") {
		made.tls, scheme = true, "redis"+strings.TrimPrefix(scheme, "rediss")
	}
	its, known := schemes[scheme]
	if !known {
		return URL{}, errors.New("it begins with none of redis://, rediss://, unix://, " +
			"redis+cluster:// and redis+sentinel://")
	}
	made.kind = its
	parts := paths[its].FindStringSubmatch(path)
	if parts == nil {
		return URL{}, errors.New("what follows the hosts is no number of a database, or no name " +
			"that sentinels know; special characters of a password are percent-encoded")
	}
	db := parts[len(parts)-1]
	if its == sentinel {
		made.name = parts[1]
	}
	port := "6379"
	if its == sentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := addressOf(host, port)
		if err != nil {
			return URL{}, err
		}
		made.addresses = append(made.addresses, address)
	}
	if its == single && len(made.addresses) > 1 {
		return URL{}, errors.New("several hosts are of redis+cluster:// or redis+sentinel://")
	}
	return made.withLogin(login, db)
}

func (u URL) withLogin(login, db string) (URL, error) {
	user, password, _ := strings.Cut(login, ":")
	var err error
	if u.username, err = url.PathUnescape(user); err == nil {
		u.password, err = url.PathUnescape(password)
	}
	if err != nil {
		return URL{}, errors.New("its login has a % that encodes nothing")
	}
	if u.username == "" {
		u.username = u.options["username"]
	}
	if u.password == "" {
		u.password = u.options["password"]
	}
	if given, there := u.options["db"]; there {
		if u.kind == cluster {
			return URL{}, errors.New("a cluster has no databases")
		}
		db = given
	}
	if db != "" {
		if u.db, err = strconv.Atoi(db); err != nil || u.db < 0 {
			return URL{}, errors.New("db is no number of a database")
		}
	}
	for name := range u.options {
		if strings.HasPrefix(name, "sentinel_") && u.kind != sentinel {
			return URL{}, fmt.Errorf("%s is for redis+sentinel://", name)
		}
	}
	return u, nil
}

func optionsOf(query string) (map[string]string, error) {
	options := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		text, err := url.QueryUnescape(value)
		if err != nil {
			return nil, fmt.Errorf("%s has a %% that encodes nothing", name)
		}
		switch {
		case name == "db", name == "username", name == "password",
			name == sentinelUser, name == sentinelPass, strings.HasPrefix(name, "ssl_"):
			options[name] = text // those of TLS are looked at by TLSProblem, which says more
		default:
			return nil, fmt.Errorf("%s is no option", name)
		}
	}
	return options, nil
}

func addressOf(text, port string) (string, error) {
	found := hostText.FindStringSubmatch(text)
	if found == nil {
		return "", errors.New("a host is missing, or is none")
	}
	if found[3] != "" {
		port = found[3]
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("there is no port %s", port)
	}
	return net.JoinHostPort(found[1]+found[2], port), nil
}

func cutLast(text, separator string) (before, after string, found bool) {
	if at := strings.LastIndex(text, separator); at >= 0 {
		return text[:at], text[at+len(separator):], true
	}
	return "", text, false
}

// Address is what people are shown of it: hosts and ports.
func (u URL) Address() string { return strings.Join(u.addresses, ",") }
