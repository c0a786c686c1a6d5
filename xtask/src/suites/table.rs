//! THE list of test suites: one row each. A new suite is a row here and its program.

use std::process::{Command, Stdio};

/// A suite.
pub struct Suite {
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    pub tier: Tier,
    /// What must be on the machine.
    pub needs: &'static [Tool],
    /// It is killed after this time; `--all` gives it four times as long.
    pub minutes_max: u64,
    pub run: Run,
}

/// When a suite runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In every `cargo xtask test`.
    Short,
    /// With `--all`, or by name.
    Long,
    /// By name alone: a part of another suite, in its long form.
    Part,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Tier::Short => "short",
            Tier::Long => "long",
            Tier::Part => "part",
        }
    }
}

/// How a suite runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// `cargo test` with these arguments.
    CargoTest { arguments: &'static [&'static str] },
    /// A client's program against a broker that is started for it.
    Client(Client),
    /// Every client's program against Apache Kafka: a test that fails there is wrong.
    Reference,
    /// The golden cases live against Headwater and Apache Kafka, their answers compared.
    Differential,
    /// The container image: the static binary built, its layout made, checked and run.
    Image,
    /// The benchmark that runs Headwater and Apache Kafka side by side, with these arguments.
    Comparison { arguments: &'static [&'static str] },
}

/// The client suites: programs under tests/clients that print `N passed, N failed, N skipped`.
#[derive(Clone, Copy)]
pub enum Client {
    /// A Python program, and the file that pins its packages.
    Python { program: &'static str, packages: &'static str },
    /// The Maven project tests/clients/java.
    Java,
    /// A program of the Go module tests/clients/go, by the name of its folder.
    Go(&'static str),
    /// The npm project tests/clients/kafkajs.
    Node,
    /// Kafka's own tools, from the jars that benches/peers/kafka.sh fetches, driven by a Python program.
    Tools,
}

/// A program that a suite needs from the machine.
#[derive(Clone, Copy)]
pub struct Tool(&'static str, &'static str);

/// The packages of the Python clients that can share an environment.
const PACKAGES: &str = "tests/clients/requirements.txt";

const PYTHON: Tool = Tool("python3", "--version");
const JAVA: Tool = Tool("javac", "-version");
const MAVEN: Tool = Tool("mvn", "--version");
const BASH: Tool = Tool("bash", "--version");
const GO: Tool = Tool("go", "version");
const NODE: Tool = Tool("node", "--version");
const NPM: Tool = Tool("npm", "--version");

impl Tool {
    pub fn name(&self) -> &'static str {
        self.0
    }

    /// Whether it runs: a shim without the program behind it does not count.
    pub fn is_there(&self) -> bool {
        let mut command = Command::new(self.0);
        command.arg(self.1).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// The suites, in the order in which they run. The parts run inside `rust` too, where `--all` asks for their long form as
/// well; rows of their own are for the people who work on them.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "rust",
        about: "unit, property, golden and short simulation and crash tests of every crate",
        tier: Tier::Short,
        needs: &[],
        minutes_max: 30,
        run: Run::CargoTest { arguments: &["--workspace"] },
    },
    Suite {
        name: "golden",
        about: "the reference's recorded answers against ours",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 20,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "golden"] },
    },
    Suite {
        name: "simulation",
        about: "1,000 random runs stopped after every operation of a simulated disk",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 120,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "sim"] },
    },
    Suite {
        name: "crash",
        about: "a real server killed under load, 200 rounds",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 120,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "crash"] },
    },
    Suite {
        name: "groups",
        about: "consumer groups by the thousand, and a server killed during rebalances, 50 rounds",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 60,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "groups"] },
    },
    Suite {
        name: "compaction",
        about: "10 million updates of 100,000 keys of a compacted topic, under replays and a kill",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 60,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "compaction"] },
    },
    Suite {
        name: "scale",
        about: "100,000 idle partitions, 10,000 busy ones, restarts with 10 GB, 1,000 waiting consumers, each within its bounds",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 15,
        run: Run::CargoTest {
            arguments: &["--package", "headwater-tests", "--test", "scale", "--", "--nocapture", "--test-threads", "1"],
        },
    },
    Suite {
        name: "bad-input",
        about: "clients that misbehave, disks that are full or broken",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 120,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "bad_input"] },
    },
    Suite {
        name: "mutated-frames",
        about: "1,000,000 mutated requests",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 120,
        run: Run::CargoTest { arguments: &["--package", "headwater-protocol-kafka", "--test", "mutated"] },
    },
    Suite {
        name: "deploy",
        about: "the files under deploy/ against a running server: queries, alerts, unit, container",
        tier: Tier::Part,
        needs: &[],
        minutes_max: 10,
        run: Run::CargoTest { arguments: &["--package", "headwater-tests", "--test", "deploy"] },
    },
    Suite {
        name: "kafka-python",
        about: "the pure Python Kafka client",
        tier: Tier::Short,
        needs: &[PYTHON],
        minutes_max: 10,
        run: Run::Client(Client::Python { program: "tests/clients/python/suite.py", packages: PACKAGES }),
    },
    Suite {
        name: "kafka-python-2.0.2",
        about: "the pure Python Kafka client, in a release that many still pin",
        tier: Tier::Short,
        needs: &[PYTHON],
        minutes_max: 10,
        run: Run::Client(Client::Python {
            program: "tests/clients/python-2.0.2/suite.py",
            packages: "tests/clients/requirements-kafka-python-2.txt",
        }),
    },
    Suite {
        name: "confluent-kafka",
        about: "librdkafka, through its Python binding",
        tier: Tier::Short,
        needs: &[PYTHON],
        minutes_max: 10,
        run: Run::Client(Client::Python { program: "tests/clients/confluent/suite.py", packages: PACKAGES }),
    },
    Suite {
        name: "aiokafka",
        about: "the client for asyncio",
        tier: Tier::Short,
        needs: &[PYTHON],
        minutes_max: 10,
        run: Run::Client(Client::Python { program: "tests/clients/aio/suite.py", packages: PACKAGES }),
    },
    Suite {
        name: "java",
        about: "the reference's own Java client",
        tier: Tier::Short,
        needs: &[JAVA, MAVEN],
        minutes_max: 10,
        run: Run::Client(Client::Java),
    },
    Suite {
        name: "franz-go",
        about: "the Go client that follows the protocol closest",
        tier: Tier::Short,
        needs: &[GO],
        minutes_max: 10,
        run: Run::Client(Client::Go("franz-go")),
    },
    Suite {
        name: "sarama",
        about: "the older Go client",
        tier: Tier::Short,
        needs: &[GO],
        minutes_max: 10,
        run: Run::Client(Client::Go("sarama")),
    },
    Suite {
        name: "kafkajs",
        about: "the JavaScript client",
        tier: Tier::Short,
        needs: &[NODE, NPM],
        minutes_max: 10,
        run: Run::Client(Client::Node),
    },
    Suite {
        name: "kafka-tools",
        about: "the tools that come with Apache Kafka",
        tier: Tier::Short,
        needs: &[BASH, PYTHON, JAVA, MAVEN],
        minutes_max: 15,
        run: Run::Client(Client::Tools),
    },
    Suite {
        name: "event-sourcing",
        about: "the event sourcing example, its README line by line",
        tier: Tier::Short,
        needs: &[PYTHON, BASH],
        minutes_max: 10,
        run: Run::Client(Client::Python { program: "tests/clients/event-sourcing/suite.py", packages: PACKAGES }),
    },
    Suite {
        name: "image",
        about: "the container image made without a container program: digests, a static binary that runs",
        tier: Tier::Long,
        needs: &[],
        minutes_max: 15,
        run: Run::Image,
    },
    Suite {
        name: "reference",
        about: "the client suites against Apache Kafka, which they must hold for",
        tier: Tier::Long,
        needs: &[BASH, PYTHON, JAVA, MAVEN, GO, NODE, NPM],
        minutes_max: 30,
        run: Run::Reference,
    },
    Suite {
        name: "differential",
        about: "the same requests to Apache Kafka and to Headwater: equal answers but for ids and times",
        tier: Tier::Long,
        needs: &[BASH, JAVA, MAVEN],
        minutes_max: 30,
        run: Run::Differential,
    },
    Suite {
        name: "comparison",
        about: "CPU, rates and latencies of Headwater and Apache Kafka, side by side",
        tier: Tier::Long,
        needs: &[BASH, JAVA, MAVEN],
        minutes_max: 20,
        run: Run::Comparison { arguments: &["--rounds", "2", "--warm-mb", "1000"] },
    },
];
