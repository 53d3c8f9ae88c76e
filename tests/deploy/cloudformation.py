"""CloudFormation templates, resolved as far as a test needs: parameters, conditions, and names of what is imported."""

import re

import yaml

from rendering import ROOT

ECS = ROOT / "deploy" / "ecs"


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Ref x is {"Ref": x}."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


def load(name):
    return yaml.load((ECS / name).read_text(), Loader)


NOTHING = object()


class Stack:
    """The resources of a template for given parameters."""

    def __init__(self, name, stack, **parameters):
        self.template = load(name)
        self.values = {"AWS::StackName": stack, "AWS::Region": "eu-west-1", "AWS::Partition": "aws"}
        self.values["AWS::NoValue"] = NOTHING
        for key, described in self.template["Parameters"].items():
            self.values[key] = str(parameters.pop(key, described.get("Default", f"<{key}>")))
        assert parameters == {}, "parameters that the template does not have"
        self.resources = {
            key: self.resolve(resource)
            for key, resource in self.template["Resources"].items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }

    def of(self, kind):
        return {key: r.get("Properties", {}) for key, r in self.resources.items() if r["Type"] == kind}

    def one(self, kind):
        (found,) = self.of(kind).values()
        return found

    def holds(self, condition):
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((operator, value),) = condition.items()
        match operator:
            case "Condition":
                return self.holds(value)
            case "Fn::Equals":
                return self.resolve(value[0]) == self.resolve(value[1])
            case "Fn::Not":
                return not self.holds(value[0])
            case "Fn::Or":
                return any(map(self.holds, value))
            case "Fn::And":
                return all(map(self.holds, value))
        raise AssertionError(operator)

    def resolve(self, value):
        if isinstance(value, list):
            return [found for found in map(self.resolve, value) if found is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((operator, inner),) = value.items()
            if operator == "Ref":
                return self.values.get(inner, f"<{inner}>")
            if operator.startswith("Fn::"):
                return self.function(operator, inner)
        found = {key: self.resolve(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner is not NOTHING}

    def function(self, operator, value):
        if operator == "Fn::If":
            return self.resolve(value[1] if self.holds(value[0]) else value[2])
        if operator == "Fn::Sub":
            text, names = (value, {}) if isinstance(value, str) else (value[0], self.resolve(value[1]))
            names = self.values | names
            return re.sub(r"\$\{([^}]+)\}", lambda m: str(names.get(m.group(1), f"<{m.group(1)}>")), text)
        if operator == "Fn::ImportValue":
            return f"import:{self.resolve(value)}"
        if operator == "Fn::GetAtt":
            return f"<{'.'.join(value)}>"
        if operator == "Fn::FindInMap":
            table, first, second = value
            return self.template["Mappings"][table][first][second]
        return {operator: self.resolve(value)}

    def exports(self):
        return {self.resolve(o["Export"]["Name"]): self.resolve(o["Value"]) for o in self.template["Outputs"].values() if "Export" in o}
